"""A convolution whose stride is its kernel, as in the stem: one signature, and the reference."""

from collections.abc import Callable

import keras
from keras import ops

from keras_convnext.kernels.select import fastest
from keras_convnext.kernels.shapes import check_image_size, check_patch_conv2d


def patch_conv2d(
    layer: keras.layers.Conv2D, inputs, training: bool = False, kernel: Callable | None = None
):
    """Applies a built convolution, with a bias, that takes every pixel once.

    Args:
        layer: The layer; its kernel is square, its stride the kernel's side, its padding `"valid"`.
        inputs: Tensor of shape `(batch, height, width, channels)`.
        training: Whether gradients will be asked for; they may be in any case.
        kernel: What `fastest_patch_conv2d` returned, which a layer asks for when built: a compiler
            that traces `call` should not meet the choice. `None` asks now.

    Returns:
        Tensor of shape `(batch, height // side, width // side, filters)`.

    Raises:
        ValueError: If the inputs do not have the layer's channels, or are smaller than a patch.
    """
    if kernel is None:
        check_patch_conv2d(inputs, layer.kernel, layer.bias)
        kernel = fastest_patch_conv2d()
    check_image_size(inputs, layer.kernel_size[0])
    if kernel is reference:
        return layer(inputs)
    return kernel(inputs, *map(ops.convert_to_tensor, (layer.kernel, layer.bias)), training)


def fastest_patch_conv2d() -> Callable:
    """Returns the fastest function with the signature of `reference`."""
    return fastest("patch_conv2d", reference)


def reference(inputs, kernel, bias, training: bool = False):
    """The convolution as `keras.ops` does it, on any backend."""
    size = kernel.shape[0]
    outputs = ops.conv(inputs, kernel, size, padding="valid", data_format="channels_last")
    return outputs + bias


def as_product(inputs, kernel, bias):
    """The convolution as one product of matrices, whose gradients are products as well."""
    return ops.matmul(patches(inputs, kernel.shape[0]), rows_of(kernel)) + bias


def patches(inputs, size: int):
    """Returns the pixels of every patch in a row; those that do not fill a patch are left out.

    Args:
        inputs: Tensor of shape `(batch, height, width, channels)`.
        size: Side of a patch in pixels.

    Returns:
        Tensor of shape `(batch, height // size, width // size, size * size * channels)`.
    """
    height, width, channels = ops.shape(inputs)[1:]
    rows, columns = height // size, width // size
    whole = inputs[:, : rows * size, : columns * size]
    split = ops.reshape(whole, (-1, rows, size, columns, size * channels))
    patches = ops.transpose(split, (0, 1, 3, 2, 4))
    return ops.reshape(patches, (-1, rows, columns, size * size * channels))


def rows_of(kernel):
    """Returns a convolution's kernel as a matrix, with a row for each value of a patch."""
    return ops.reshape(kernel, (-1, kernel.shape[-1]))
