"""Depthwise convolution: the one signature, and its reference."""

from collections.abc import Callable

from keras import ops

from keras_convnext.kernels.select import fastest
from keras_convnext.kernels.shapes import check_depthwise_conv2d

# Where gradients are worked out image by image, in smaller ones the calls would cost more than is
# saved.
LEAST_VALUES_OF_AN_IMAGE = 2**13


def depthwise_conv2d(inputs, kernel, bias=None, training: bool = False):
    """Convolves every channel with a kernel of its own: stride 1, zero padding, size kept.

    Args:
        inputs: Tensor of shape `(batch, height, width, channels)`.
        kernel: Tensor of shape `(size, size, channels, 1)` with an odd size.
        bias: Tensor of shape `(channels,)`, or `None`.
        training: Whether gradients will be asked for; they may be in any case.

    Returns:
        Tensor of the shape of `inputs`.

    Raises:
        ValueError: If the shapes do not fit each other.
    """
    inputs, kernel = ops.convert_to_tensor(inputs), ops.convert_to_tensor(kernel)
    bias = None if bias is None else ops.convert_to_tensor(bias)
    check_depthwise_conv2d(inputs, kernel, bias)
    return fastest_depthwise_conv2d(kernel.shape[0])(inputs, kernel, bias, training)


def fastest_depthwise_conv2d(kernel_size: int) -> Callable:
    """Returns the fastest function with the signature above, for kernels of one size in pixels."""
    return fastest("depthwise_conv2d", reference, kernel_size)


def reference(inputs, kernel, bias=None, training: bool = False):
    """The convolution as `keras.ops` does it, on any backend."""
    outputs = ops.depthwise_conv(inputs, kernel, padding="same", data_format="channels_last")
    return outputs if bias is None else outputs + bias
