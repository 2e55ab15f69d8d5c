"""What tests that compare networks share."""

import contextlib

import keras
import numpy as np
import pytest

from keras_convnext.layers.initializers import Normal


def relative_error(actual, expected):
    """Returns the largest difference, relative to the largest expected value."""
    actual, expected = (np.asarray(x, "float64") for x in (actual, expected))
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()


@contextlib.contextmanager
def zeros_for_random_values():
    """Kernels start at 0 inside: they are about to be replaced, and drawing them takes time."""
    with pytest.MonkeyPatch.context() as patch:
        for initializer in (Normal, keras.initializers.VarianceScaling):
            patch.setattr(
                initializer, "__call__", lambda self, shape, dtype=None: np.zeros(shape, dtype)
            )
        yield
