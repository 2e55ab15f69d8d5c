"""A block's LayerNorm, its two dense layers and layer scale: the one signature, and its reference.

They are one operation for the sake of training. Of the eight values a channel and pixel that the
gradients of a block's parts would keep, two can be had from the others: the normalised ones are
worked out again from the depthwise convolution's, and of those before layer scale only the sum
along the scale's gradient is needed, which the second layer's kernel has with its gradient.
"""

from collections.abc import Callable

import keras
from keras import ops
from keras.src.backend import AutocastScope

from keras_convnext.kernels.select import fastest
from keras_convnext.kernels.shapes import check_norm_mlp


def norm_mlp(
    norm: keras.layers.LayerNormalization,
    first: keras.layers.Dense,
    second: keras.layers.Dense,
    layer_scale: keras.layers.Layer | None,
    inputs,
    training: bool = False,
    kernel: Callable | None = None,
):
    """Applies a built LayerNorm, two built dense layers with exact GELU between, and layer scale.

    The dense layers have biases and no activations. Quantized layers compute for themselves.

    Args:
        norm: LayerNorm over the channels, with scale and offset.
        first: The layer to the hidden units.
        second: The layer back.
        layer_scale: `layers.LayerScale`, the factors on the result; `None` for none.
        inputs: Tensor of shape `(..., channels)`, of the layers' compute dtype.
        training: Whether gradients will be asked for; they may be in any case.
        kernel: What `fastest_norm_mlp` returned, which a layer asks for when built: a compiler
            that traces `call` should not meet the choice. `None` asks now.

    Returns:
        Tensor of the shape of `inputs`.

    Raises:
        ValueError: If the inputs do not have the layers' channels.
    """
    if kernel is None:
        _check_layers(norm, first, second, layer_scale, inputs)
        kernel = fastest_norm_mlp()
    if kernel is reference or first.quantization_mode or second.quantization_mode:
        outputs = second(ops.gelu(first(norm(inputs)), approximate=False))
        return outputs if layer_scale is None else layer_scale(outputs)
    weights = [norm.gamma, norm.beta, first.kernel, first.bias, second.kernel, second.bias]
    with AutocastScope(None):  # in the type they are kept in; a kernel casts them itself
        tensors = [ops.convert_to_tensor(weight) for weight in weights]
        scale = None if layer_scale is None else ops.convert_to_tensor(layer_scale.gamma)
    return kernel(inputs, *tensors, scale, norm.epsilon, training)


def _check_layers(norm, first, second, layer_scale, inputs):
    if first.quantization_mode or second.quantization_mode:
        return  # their kernels are packed, and they check for themselves
    weights = [norm.gamma, norm.beta, first.kernel, first.bias, second.kernel, second.bias]
    weights.append(None if layer_scale is None else layer_scale.gamma)
    check_norm_mlp(inputs, *weights)


def fastest_norm_mlp() -> Callable:
    """Returns the fastest function with the signature of `reference`."""
    return fastest("norm_mlp", reference)


def reference(
    inputs,
    gamma,
    beta,
    kernel_1,
    bias_1,
    kernel_2,
    bias_2,
    scale,
    epsilon: float,
    training: bool = False,
):
    """The layers as `keras.ops` does them, on any backend.

    Weights of another dtype than the inputs' are cast to it, except `scale`: in half precision its
    first values would be lost.
    """
    gamma, beta, kernel_1, bias_1, kernel_2, bias_2 = (
        ops.cast(weight, inputs.dtype)
        for weight in (gamma, beta, kernel_1, bias_1, kernel_2, bias_2)
    )
    normed = ops.layer_normalization(inputs, gamma, beta, axis=-1, epsilon=epsilon)
    hidden = ops.gelu(ops.matmul(normed, kernel_1) + bias_1, approximate=False)
    outputs = ops.matmul(hidden, kernel_2) + bias_2
    return outputs if scale is None else ops.cast(outputs * scale, inputs.dtype)


def keeps_unscaled(rows: int | None, hidden: int) -> bool:
    """Whether what layer scale multiplies is kept for its gradient.

    Without it that gradient takes two passes over the second layer's kernel, which only many rows
    are worth.

    Args:
        rows: Pixels of all images; `None` where their number is open.
        hidden: Hidden units.
    """
    return rows is not None and rows < hidden
