"""Random draws of a layer, where the backend may call the layer again to recompute it."""

from collections.abc import Callable
from typing import Any

import keras


def repeatable_draws() -> Callable[[Callable], Any]:
    """Returns what a layer calls its random draws by, so that a recomputed call repeats them.

    PyTorch's checkpointing calls a layer again in the backward pass. On JAX and TensorFlow the
    state of a seed generator is part of what is recomputed.

    Returns:
        A function that is given a function without arguments, which draws, and returns the draws.
    """
    if keras.backend.backend() != "torch":
        return lambda draw: draw()
    from keras_convnext.kernels.torch.draws import RepeatableDraws

    return RepeatableDraws()
