"""Random draws of a layer that stay the same when the layer is recomputed."""

from collections.abc import Callable
from typing import Any

import keras


def repeatable_draws() -> Callable[[Callable], Any]:
    """Returns a wrapper for a layer's random draws, so that a recomputed call repeats them.

    PyTorch's checkpointing calls a layer again in the backward pass. On JAX and TensorFlow the
    state of a seed generator is part of the recomputation, so nothing needs to be done.

    Returns:
        A function that takes a function without arguments, which draws, and returns its draws.
    """
    if keras.backend.backend() != "torch":
        return lambda draw: draw()
    from keras_convnext.kernels.torch.draws import RepeatableDraws

    return RepeatableDraws()
