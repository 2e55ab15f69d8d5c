"""LayerNorm's kernels against `keras.ops`."""

import importlib

import keras
import numpy as np
import pytest
from gradients import compare_with_reference
from keras import ops

from keras_convnext import kernels
from keras_convnext.kernels.select import fastest

# The package's attribute of this name is the function; this is the module it comes from.
reference = importlib.import_module("keras_convnext.kernels.layer_norm").reference
EPSILON = 1e-6


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 5e-6), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("size", [(2, 3, 7, 5), (1, 2, 1, 33), (3, 8)], ids=str)
def test_values_and_gradients_equal_the_reference(size, dtype, tolerance, training):
    kernel = fastest("layer_norm", reference)
    assert kernel is not reference
    compare_with_reference(
        lambda *arguments: kernel(*arguments, EPSILON, training),
        lambda *arguments: reference(*arguments, EPSILON),
        [size, size[-1:], size[-1:], size],
        dtype,
        tolerance,
    )


@pytest.mark.parametrize("training", [False, True])
def test_a_mean_far_from_zero_does_not_spoil_the_variance(training):
    layer = keras.layers.LayerNormalization(epsilon=EPSILON)
    layer.build((None, 64))
    values = np.random.default_rng(0).normal(size=(4, 64))
    far = ops.convert_to_tensor((1000 + values).astype("float32"))
    result = ops.convert_to_numpy(kernels.layer_norm(layer, far, training))
    expected = (values - values.mean(-1, keepdims=True)) / values.std(-1, keepdims=True)
    np.testing.assert_allclose(result, expected, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_equals_the_layer(dtype):
    layer = keras.layers.LayerNormalization(epsilon=EPSILON, dtype=dtype)
    layer.build((None, 6))
    layer.gamma.assign(np.arange(1.0, 7.0))
    layer.beta.assign(np.arange(6.0))
    inputs = np.random.default_rng(0).normal(size=(2, 3, 6)).astype("float32")
    inputs = ops.cast(inputs, layer.compute_dtype)
    result, expected = kernels.layer_norm(layer, inputs), layer(inputs)
    assert result.dtype == expected.dtype
    result, expected = (ops.convert_to_numpy(ops.cast(x, "float32")) for x in (result, expected))
    np.testing.assert_allclose(result, expected, rtol=1e-2 if "16" in dtype else 1e-6, atol=1e-6)
