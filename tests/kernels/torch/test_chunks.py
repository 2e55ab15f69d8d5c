"""PyTorch's kernel with several chunks, which the small shapes of other tests do not need."""

import functools

import keras
import pytest

if keras.backend.backend() != "torch":
    pytest.skip("this is PyTorch's kernel", allow_module_level=True)

from gradients import compare_values_with_reference, compare_with_reference

from keras_convnext.kernels import reference
from keras_convnext.kernels.reference import BlockParams
from keras_convnext.kernels.torch import norm_mlp

FLOAT = 4  # bytes
EPSILON = 1e-6
# Inputs, LayerNorm's and both layers' weights, layer scale, and the result.
DENSE = [(2, 3, 7, 5), (5,), (5,), (5, 7), (7,), (7, 5), (5,), (5,), (2, 3, 7, 5)]


def of_tensors(kernel, inputs, *weights, training=False):
    return kernel(inputs, BlockParams(*weights), EPSILON, training)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("rows_that_fit", [1, 5, 41, 42, 1000])
@pytest.mark.parametrize("saves", [False, True])
def test_chunks_of_dense_layers_are_joined(monkeypatch, saves, rows_that_fit, dtype, tolerance):
    monkeypatch.setattr(norm_mlp, "HIDDEN_BYTES_PER_CHUNK", rows_that_fit * 7 * FLOAT)
    monkeypatch.setattr(norm_mlp, "save_unscaled", lambda rows, hidden: saves)
    kernel = functools.partial(of_tensors, norm_mlp.norm_mlp)
    truth = functools.partial(of_tensors, reference.norm_mlp)
    compare_values_with_reference(kernel, truth, DENSE[:-1], dtype, tolerance)
    training = functools.partial(kernel, training=True)
    compare_with_reference(training, truth, DENSE, dtype, tolerance)
