"""A block's two dense layers with GELU between them: the one signature, and its reference."""

from collections.abc import Callable

import keras
from keras import ops
from keras.src.backend import AutocastScope

from keras_convnext.kernels.choice import fastest


def mlp(
    first: keras.layers.Dense,
    second: keras.layers.Dense,
    inputs,
    training: bool = False,
    kernel: Callable | None = None,
):
    """Applies two built dense layers, with biases and no activations, and exact GELU between.

    Quantized layers compute for themselves.

    Args:
        first: The layer to the hidden units.
        second: The layer back.
        inputs: Tensor of shape `(..., channels)`, of the layers' compute dtype.
        training: Whether gradients will be asked for; they may be in any case.
        kernel: What `fastest_mlp` returned, which a layer asks for when built: a compiler
            that traces `call` should not meet the choice. `None` asks now.

    Returns:
        Tensor of shape `(..., units of the second layer)`.
    """
    kernel = kernel or fastest_mlp()
    if kernel is reference or first.quantization_mode or second.quantization_mode:
        return second(ops.gelu(first(inputs), approximate=False))
    weights = (first.kernel, first.bias, second.kernel, second.bias)
    with AutocastScope(None):  # in the type they are kept in; a kernel casts them itself
        tensors = [ops.convert_to_tensor(weight) for weight in weights]
    return kernel(inputs, *tensors, training)


def fastest_mlp() -> Callable:
    """Returns the fastest function with the signature of `reference`."""
    return fastest("mlp", reference)


def reference(inputs, kernel_1, bias_1, kernel_2, bias_2, training: bool = False):
    """The two layers as `keras.ops` does them, on any backend.

    Weights of another dtype than the inputs' are cast to it.
    """
    weights = (ops.cast(weight, inputs.dtype) for weight in (kernel_1, bias_1, kernel_2, bias_2))
    kernel_1, bias_1, kernel_2, bias_2 = weights
    hidden = ops.gelu(ops.matmul(inputs, kernel_1) + bias_1, approximate=False)
    return ops.matmul(hidden, kernel_2) + bias_2
