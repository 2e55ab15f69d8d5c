"""Kernels as layers call them, against Keras's own layers."""

import keras
import numpy as np
import pytest
from gradients import random_tensors
from keras import ops

from keras_convnext.layers import LayerScale
from keras_convnext.layers.kernel_calls import (
    call_layer_norm,
    call_norm_mlp,
    call_patch_conv2d,
    kernel_for_layer,
)

EPSILON = 1e-6
FILTERS = 5


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_layer_norm_equals_the_layer(dtype):
    layer = keras.layers.LayerNormalization(epsilon=EPSILON, dtype=dtype)
    layer.build((None, 6))
    layer.gamma.assign(np.arange(1.0, 7.0))
    layer.beta.assign(np.arange(6.0))
    inputs = np.random.default_rng(0).normal(size=(2, 3, 6)).astype("float32")
    inputs = ops.cast(inputs, layer.compute_dtype)
    result = call_layer_norm(kernel_for_layer("layer_norm"), layer, inputs, training=False)
    expected = layer(inputs)
    assert result.dtype == expected.dtype
    result, expected = (ops.convert_to_numpy(ops.cast(x, "float32")) for x in (result, expected))
    np.testing.assert_allclose(result, expected, rtol=1e-2 if "16" in dtype else 1e-6, atol=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("mixed_bfloat16", 2e-2)])
@pytest.mark.parametrize("with_scale", [False, True])
def test_norm_mlp_equals_the_layers(with_scale, dtype, tolerance):
    norm = keras.layers.LayerNormalization(epsilon=EPSILON, dtype=dtype)
    first, second = (
        keras.layers.Dense(units, bias_initializer="random_normal", dtype=dtype) for units in (7, 5)
    )
    scale = LayerScale(0.3, dtype=dtype) if with_scale else None
    for layer in (norm, first, scale):
        if layer is not None:
            layer.build((None, None, None, 5))
    second.build((None, None, None, 7))
    (inputs,) = random_tensors([(2, 3, 4, 5)], norm.compute_dtype)
    kernel = kernel_for_layer("norm_mlp")
    # In a network the block's call sets the dtype that weights are read in.
    with keras.src.backend.AutocastScope(norm.compute_dtype):
        result = call_norm_mlp(kernel, norm, first, second, scale, inputs, training=False)
    assert keras.backend.standardize_dtype(result.dtype) == norm.compute_dtype
    expected = second(ops.gelu(first(norm(inputs)), approximate=False))
    expected = scale(expected) if with_scale else expected
    result, expected = (ops.convert_to_numpy(ops.cast(x, "float32")) for x in (result, expected))
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


class Patches(keras.layers.Layer):
    """Applies the kernel as the stem does."""

    def __init__(self, dtype):
        super().__init__(dtype=dtype)
        self.conv = keras.layers.Conv2D(FILTERS, 2, 2, data_format="channels_last", dtype=dtype)

    def build(self, input_shape):
        self._kernel = kernel_for_layer("patch_conv2d")
        self.conv.build(input_shape)
        self.conv.bias.assign(np.arange(FILTERS))

    def call(self, images, training=False):
        return call_patch_conv2d(self._kernel, self.conv, images, training)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_patches_equal_the_layers_for_every_size(dtype, training):
    inputs, layer = keras.Input((None, None, 3)), Patches(dtype)
    model = keras.Model(inputs, layer(inputs))
    for size in (4, 7):
        images = np.random.default_rng(0).normal(size=(2, size, 6, 3)).astype("float32")
        result, expected = model(images, training=training), layer.conv(images)
        assert result.dtype == expected.dtype
        tensors = (ops.convert_to_numpy(ops.cast(x, "float32")) for x in (result, expected))
        tolerance = 2e-2 if "16" in dtype else 2e-6
        np.testing.assert_allclose(*tensors, rtol=tolerance, atol=tolerance)
