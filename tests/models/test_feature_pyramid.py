"""The feature pyramid gives the output of every stage under its name."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_convnext
from keras_convnext import feature_pyramid

PLAIN = {"include_preprocessing": False, "include_top": False}


def shapes(pyramid):
    return {level: tuple(output.shape) for level, output in pyramid.output.items()}


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("include_top", [True, False])
def test_levels_have_the_strides_of_their_names(toy, include_top):
    model = keras_convnext.ConvNeXt(**toy, include_top=include_top, input_shape=(64, 96, 3))

    assert shapes(feature_pyramid(model)) == {
        "P2": (None, 16, 24, 8),
        "P3": (None, 8, 12, 16),
        "P4": (None, 4, 6, 24),
        "P5": (None, 2, 3, 32),
    }


@pytest.mark.usefixtures("no_weights")
def test_smaller_patches_begin_a_level_lower(small):
    model = keras_convnext.ConvNeXt(**small, **PLAIN, patch_size=2, input_shape=(16, 16, 3))

    assert shapes(feature_pyramid(model)) == {"P1": (None, 8, 8, 4), "P2": (None, 4, 4, 8)}


def test_values_are_the_outputs_of_the_last_blocks(small, images):
    model = keras_convnext.ConvNeXt(**{**small, "depths": (2, 1)}, **PLAIN)
    x = images(2, 13, 18, 3)  # any size, since the model takes all of them

    maps = feature_pyramid(model).predict(x, verbose=0)

    names = ["stem", "stages_0_blocks_0", "stages_0_blocks_1"]
    names += ["stages_1_downsampling", "stages_1_blocks_0"]
    outputs = {}
    for name in names:
        x = outputs[name] = model.get_layer(name)(x)
    assert sorted(maps) == ["P2", "P3"]
    for level, name in [("P2", "stages_0_blocks_1"), ("P3", "stages_1_blocks_0")]:
        np.testing.assert_allclose(
            maps[level], ops.convert_to_numpy(outputs[name]), rtol=1e-4, atol=1e-4
        )


def test_weights_are_shared_with_the_model(small):
    model = keras_convnext.ConvNeXt(**small, **PLAIN)

    pyramid = feature_pyramid(model)

    assert pyramid.name == "convnext_feature_pyramid"
    ids = {id(weight) for weight in model.weights}
    assert pyramid.weights and all(id(weight) in ids for weight in pyramid.weights)


def test_maps_follow_the_configured_data_format(small, images, channels_first):
    first = keras_convnext.ConvNeXt(**small, **PLAIN, input_shape=(3, 16, 24))
    first_maps = feature_pyramid(first)
    keras.config.set_image_data_format("channels_last")
    last = keras_convnext.ConvNeXt(**small, **PLAIN, input_shape=(16, 24, 3))
    last.set_weights(first.get_weights())
    last_maps = feature_pyramid(last)
    x = images(2, 16, 24, 3)

    actual = first_maps.predict(x.transpose(0, 3, 1, 2), verbose=0)
    expected = last_maps.predict(x, verbose=0)

    assert actual["P2"].shape == (2, 4, 4, 6)
    for level, value in expected.items():
        np.testing.assert_allclose(actual[level].transpose(0, 2, 3, 1), value, atol=1e-4)


def test_refuses_a_model_of_another_kind():
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()], name="other")

    with pytest.raises(ValueError, match=r"made by keras_convnext.* Received 'other'"):
        feature_pyramid(model)


def test_refuses_a_model_around_a_network_and_says_what_to_pass(small):
    inner = keras_convnext.ConvNeXt(**small, **PLAIN, input_shape=(16, 16, 3))

    with pytest.raises(ValueError, match="pass the inner one"):
        feature_pyramid(keras.Sequential([keras.Input((16, 16, 3)), inner]))


@pytest.mark.usefixtures("no_weights")
def test_refuses_strides_that_are_no_powers_of_2(small):
    model = keras_convnext.ConvNeXt(**small, **PLAIN, patch_size=3)

    with pytest.raises(ValueError, match=r"must be one. Received a model with patch_size=3"):
        feature_pyramid(model)
