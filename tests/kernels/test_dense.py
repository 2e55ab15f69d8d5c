import keras
import numpy as np
import pytest
from keras import ops

from keras_convnext import kernels


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("mixed_bfloat16", 1e-2)])
def test_equals_the_layer(dtype, tolerance):
    layer = keras.layers.Dense(7, bias_initializer="random_normal", dtype=dtype)
    layer.build((None, None, None, 5))
    inputs = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
    inputs = ops.cast(inputs, layer.compute_dtype)
    # In a network the block's call sets the dtype that weights are read in.
    with keras.src.backend.AutocastScope(layer.compute_dtype):
        result = kernels.dense(layer, inputs)
    assert keras.backend.standardize_dtype(result.dtype) == layer.compute_dtype
    result, expected = (
        ops.convert_to_numpy(ops.cast(outputs, "float32")) for outputs in (result, layer(inputs))
    )
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)
