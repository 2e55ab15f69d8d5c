"""LayerNorm over the channels: the one signature, and its reference."""

import keras
from keras import ops

from keras_convnext.kernels.choice import fastest


def layer_norm(layer: keras.layers.LayerNormalization, inputs, training: bool = False):
    """Applies a built LayerNorm over the last axis, with scale and offset.

    Args:
        layer: The layer.
        inputs: Tensor of shape `(..., channels)`.
        training: Whether gradients will be asked for; they may be in any case.

    Returns:
        Tensor of the shape of `inputs`, of the layer's compute dtype.
    """
    kernel = fastest("layer_norm", reference)
    if kernel is reference:
        return layer(inputs)
    weights = (ops.convert_to_tensor(weight) for weight in (layer.gamma, layer.beta))
    return kernel(inputs, *weights, layer.epsilon, training)


def reference(inputs, gamma, beta, epsilon: float, training: bool = False):
    """LayerNorm as `keras.ops` does it, on any backend."""
    return ops.layer_normalization(inputs, gamma, beta, axis=-1, epsilon=epsilon)
