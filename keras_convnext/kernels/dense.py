"""Dense layers: the layer itself, or the same in one pass where that is faster."""

import keras
from keras import ops

from keras_convnext.kernels.choice import reference_is_forced


def dense(layer: keras.layers.Dense, inputs):
    """Applies a built dense layer that has a bias and no activation.

    PyTorch adds the bias within the matrix product, where Keras adds it in a pass of its own; on
    CPU that takes a third off the widest layer's time. A quantized layer computes for itself.

    Args:
        layer: The layer.
        inputs: Tensor of shape `(..., channels)`, of the layer's compute dtype.

    Returns:
        Tensor of shape `(..., units)`.
    """
    fused = keras.backend.backend() == "torch" and not reference_is_forced()
    if not fused or layer.quantization_mode is not None:
        return layer(inputs)
    import torch

    kernel, bias = ops.convert_to_tensor(layer.kernel), ops.convert_to_tensor(layer.bias)
    return torch.nn.functional.linear(inputs, kernel.t(), bias)
