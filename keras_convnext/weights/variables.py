"""Values into Keras variables, also while a backend traces the model that they belong to.

`fit` and `predict` trace a model that is not built yet, and a layer may make its network in `build`
then. Variables have no values at that time, and what is assigned to them counts for the trace only.
The names with an underscore, and `in_stateless_scope`, are Keras's own (3.12 to 3.15).
"""

from collections.abc import Iterable

import keras
import numpy as np
from keras.src.backend.common.stateless_scope import in_stateless_scope

from keras_convnext.errors import WeightsError


def refuse_lost_values(name: str, variables: Iterable[keras.Variable]) -> None:
    """Refuses to go on where the values of a network's variables would be lost with a trace.

    Raises:
        WeightsError: If a model is being traced, and the variables have been initialized.
    """
    if any(variable._value is not None for variable in variables) and _is_traced():
        raise WeightsError(
            f"Weights cannot be loaded into {name!r} while a model is traced: they would be lost "
            f"with the trace. Load them before the model is called for the first time, or make the "
            f"network and load its weights in the `build` of the layer that holds it."
        )


def set_value(variable: keras.Variable, value: np.ndarray) -> None:
    """Gives a variable its value: now, or where it has none yet, when Keras initializes it."""
    if variable._value is None:
        variable._initializer = _Constant(value)
    else:
        variable.assign(value)


def _is_traced():
    """Whether what is assigned now is kept apart, or becomes part of a graph."""
    if in_stateless_scope():
        return True
    try:
        keras.ops.convert_to_numpy(keras.ops.zeros(()))
    except Exception:  # each backend has an error of its own for it
        return True
    return False


class _Constant(keras.initializers.Initializer):
    def __init__(self, value: np.ndarray) -> None:
        self.value = value

    def __call__(self, shape, dtype=None):
        return keras.ops.convert_to_tensor(self.value, dtype)
