"""Calls of the kernels by layers: these know weights, dtype policies and quantization."""

from collections.abc import Callable

import keras
from keras import ops

from keras_convnext import keras_private
from keras_convnext.kernels import reference
from keras_convnext.kernels.reference import BlockParams
from keras_convnext.kernels.select import reference_is_forced, select
from keras_convnext.kernels.shapes import check_image_size


def kernel_for_layer(operation: str, kernel_size: int | None = None) -> Callable:
    """Selects an operation's implementation when a layer is built, see `kernels.select`.

    On JAX the memory of the compiler is returned to the system from then on.
    """
    if keras.backend.backend() == "jax" and not reference_is_forced():
        from keras_convnext.kernels.jax.compiler_memory import trim_after_compiling

        trim_after_compiling()
    return select(operation, kernel_size)


def call_layer_norm(kernel: Callable, layer: keras.layers.LayerNormalization, inputs, training):
    """Applies a built LayerNorm over the last axis, with factors and offsets.

    Args:
        kernel: From `kernel_for_layer("layer_norm")`.
        layer: The layer.
        inputs: Tensor of shape `(..., channels)`.
        training: Whether gradients will be computed.
    """
    if kernel is reference.layer_norm:
        return layer(inputs)
    gamma, beta = map(ops.convert_to_tensor, (layer.gamma, layer.beta))
    return kernel(inputs, gamma, beta, layer.epsilon, training)


def call_patch_conv2d(kernel: Callable, layer: keras.layers.Conv2D, inputs, training):
    """Applies a built convolution with a bias, whose stride is its kernel size.

    Args:
        kernel: From `kernel_for_layer("patch_conv2d")`.
        layer: The layer; its kernel is square, its padding `"valid"`.
        inputs: Tensor of shape `(batch, height, width, channels)`.
        training: Whether gradients will be computed.

    Raises:
        ValueError: If the images are smaller than a patch.
    """
    check_image_size(inputs, layer.kernel_size[0])
    if kernel is reference.patch_conv2d:
        return layer(inputs)
    return kernel(inputs, *map(ops.convert_to_tensor, (layer.kernel, layer.bias)), training)


def call_norm_mlp(
    kernel: Callable,
    norm: keras.layers.LayerNormalization,
    first: keras.layers.Dense,
    second: keras.layers.Dense,
    layer_scale: keras.layers.Layer | None,
    inputs,
    training,
):
    """Applies a built LayerNorm, two dense layers with exact GELU in between, and layer scale.

    The dense layers have biases and no activations. Quantized ones compute for themselves.

    Args:
        kernel: From `kernel_for_layer("norm_mlp")`.
        norm: LayerNorm over the channels, with factors and offsets.
        first: The layer to the hidden units.
        second: The layer back to the channels.
        layer_scale: `layers.LayerScale`, or `None`.
        inputs: Tensor of shape `(..., channels)`, of the layers' compute dtype.
        training: Whether gradients will be computed.
    """
    is_quantized = first.quantization_mode or second.quantization_mode
    if kernel is reference.norm_mlp or is_quantized:
        outputs = second(ops.gelu(first(norm(inputs)), approximate=False))
        return outputs if layer_scale is None else layer_scale(outputs)
    with keras_private.without_autocast():  # a kernel casts them itself
        params = BlockParams(
            gamma=ops.convert_to_tensor(norm.gamma),
            beta=ops.convert_to_tensor(norm.beta),
            kernel_1=ops.convert_to_tensor(first.kernel),
            bias_1=ops.convert_to_tensor(first.bias),
            kernel_2=ops.convert_to_tensor(second.kernel),
            bias_2=ops.convert_to_tensor(second.bias),
            scale=None if layer_scale is None else ops.convert_to_tensor(layer_scale.gamma),
        )
    return kernel(inputs, params, norm.epsilon, training)
