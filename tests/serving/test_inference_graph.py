"""Folding layer scale and the normalisation into the weights beside them."""

import keras
import numpy as np
import pytest

from keras_convnext import ConvNeXt
from keras_convnext.layers import Block, LayerScale
from keras_convnext.serving.inference_graph import fold

IMAGES = np.random.default_rng(0).uniform(0, 255, (3, 16, 16, 3)).astype("float32")


def network(**arguments):
    """A small network whose every weight is at random, so that each of them tells."""
    keras.utils.set_random_seed(0)
    model = ConvNeXt((2, 1), (8, 16), kernel_size=3, input_shape=(16, 16, 3), **arguments)
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(rng.normal(0.5, 0.2, weight.shape))
    return model


def assert_same_results(model, result):
    expected = model.predict(IMAGES, verbose=0)
    assert expected.std() > 0.01  # or any output would do
    np.testing.assert_allclose(result.predict(IMAGES, verbose=0), expected, rtol=2e-5, atol=2e-5)


def layers_of(model, kind):
    return [layer for layer in model._flatten_layers() if isinstance(layer, kind)]


@pytest.mark.parametrize("stem_norm", [True, False])
def test_results_stay_and_neither_scale_nor_normalisation_does(stem_norm):
    model = network(include_top=False, pooling="avg", stem_norm=stem_norm)
    before = model.get_weights()
    result = fold(model)
    assert_same_results(model, result)
    assert layers_of(result, LayerScale) == layers_of(result, keras.layers.Normalization) == []
    assert len(layers_of(result, Block)) == 3
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_a_nested_network_is_folded_too():
    base = network(include_top=False, pooling="avg")
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, keras.layers.Dense(5)(base(inputs)))
    result = fold(model)
    assert_same_results(model, result)
    assert layers_of(result, LayerScale) == layers_of(result, keras.layers.Normalization) == []


def test_a_normalisation_that_others_use_stays():
    base = network(include_top=False)
    normalized = base.get_layer("pixel_normalization").output
    beside = keras.layers.GlobalAveragePooling2D()(normalized)
    pooled = keras.layers.GlobalAveragePooling2D()(base.output)
    model = keras.Model(base.input, keras.layers.Concatenate()([beside, pooled]))
    result = fold(model)
    assert_same_results(model, result)
    assert len(layers_of(result, keras.layers.Normalization)) == 1


def test_pixels_are_normalised_before_half_precision_rounds_them():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = network(include_top=False, pooling="avg")
    finally:
        keras.config.set_dtype_policy("float32")
    result = fold(model)
    assert len(layers_of(result, keras.layers.Normalization)) == 1
    assert layers_of(result, LayerScale) == []
    expected, found = (one.predict(IMAGES, verbose=0) for one in (model, result))
    np.testing.assert_allclose(
        np.asarray(found, "float32"), np.asarray(expected, "float32"), rtol=0.05, atol=0.05
    )


# Keras says of every layer without an integer form that it has none.
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method:UserWarning")
def test_quantized_blocks_stay_as_they_are():
    model = network(include_top=False, pooling="avg")
    model.quantize("int8")
    result = fold(model)
    assert len(layers_of(result, LayerScale)) == 3
    assert_same_results(model, result)


def test_a_network_with_nothing_to_fold_keeps_its_layers():
    model = network(
        include_top=False,
        pooling="avg",
        include_preprocessing=False,
        layer_scale_init_value=None,
    )
    result = fold(model)
    assert result.layers[1:] == model.layers[1:]
