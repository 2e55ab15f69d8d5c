"""Assigns values to Keras variables, also while a backend traces their model.

`fit` and `predict` trace a model that is not built yet, and a layer may build its network in
`build` during that trace. Variables have no values then, and a value assigned to them is lost with
the trace. The names with an underscore are private to Keras (3.12 to 3.15).
"""

from collections.abc import Iterable

import keras
import numpy as np

from keras_convnext import keras_private
from keras_convnext.errors import WeightsError


def check_values_persist(name: str, variables: Iterable[keras.Variable]) -> None:
    """Checks that values assigned to a network's variables would outlive a trace.

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
    """Assigns a value now, or when Keras initializes the variable if it has no value yet."""
    if variable._value is None:
        variable._initializer = _Constant(value)
    else:
        variable.assign(value)


def _is_traced():
    """Whether an assignment now would go to a stateless scope or become part of a graph."""
    if keras_private.is_stateless():
        return True
    try:
        keras.ops.convert_to_numpy(keras.ops.zeros(()))
    except Exception:  # each backend raises its own error
        return True
    return False


class _Constant(keras.initializers.Initializer):
    def __init__(self, value: np.ndarray) -> None:
        self.value = value

    def __call__(self, shape, dtype=None):
        return keras.ops.convert_to_tensor(self.value, dtype)
