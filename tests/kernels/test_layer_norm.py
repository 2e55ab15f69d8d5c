"""LayerNorm's kernels against `keras.ops`."""

import numpy as np
import pytest
from gradients import compare_with_reference
from keras import ops

from keras_convnext.kernels.reference import layer_norm as reference
from keras_convnext.kernels.select import select

EPSILON = 1e-6


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 5e-6), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("size", [(2, 3, 7, 5), (1, 2, 1, 33), (3, 8)], ids=str)
def test_values_and_gradients_equal_the_reference(size, dtype, tolerance, training):
    kernel = select("layer_norm")
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
    values = np.random.default_rng(0).normal(size=(4, 64))
    far = ops.convert_to_tensor((1000 + values).astype("float32"))
    kernel = select("layer_norm")
    result = ops.convert_to_numpy(kernel(far, ops.ones(64), ops.zeros(64), EPSILON, training))
    expected = (values - values.mean(-1, keepdims=True)) / values.std(-1, keepdims=True)
    np.testing.assert_allclose(result, expected, atol=1e-3)
