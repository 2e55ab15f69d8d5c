"""LayerNorm over the channels: the one signature, and its reference."""

from collections.abc import Callable

import keras
from keras import ops

from keras_convnext.kernels.select import fastest
from keras_convnext.kernels.shapes import check_layer_norm


def layer_norm(
    layer: keras.layers.LayerNormalization,
    inputs,
    training: bool = False,
    kernel: Callable | None = None,
):
    """Applies a built LayerNorm over the last axis, with scale and offset.

    Args:
        layer: The layer.
        inputs: Tensor of shape `(..., channels)`.
        training: Whether gradients will be asked for; they may be in any case.
        kernel: What `fastest_layer_norm` returned, which a layer asks for when built: a compiler
            that traces `call` should not meet the choice. `None` asks now.

    Returns:
        Tensor of the shape of `inputs`, of the layer's compute dtype.

    Raises:
        ValueError: If the inputs do not have the layer's channels.
    """
    if kernel is None:
        check_layer_norm(inputs, layer.gamma, layer.beta)
        kernel = fastest_layer_norm()
    if kernel is reference:
        return layer(inputs)
    weights = (ops.convert_to_tensor(weight) for weight in (layer.gamma, layer.beta))
    return kernel(inputs, *weights, layer.epsilon, training)


def fastest_layer_norm() -> Callable:
    """Returns the fastest function with the signature of `reference`."""
    return fastest("layer_norm", reference)


def reference(inputs, gamma, beta, epsilon: float, training: bool = False):
    """LayerNorm as `keras.ops` does it, on any backend."""
    return ops.layer_normalization(inputs, gamma, beta, axis=-1, epsilon=epsilon)
