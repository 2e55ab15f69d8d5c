"""The network that a file belongs to is built from the file alone."""

import keras
import numpy as np
import pytest

import keras_convnext
from keras_convnext import ConvNeXt, model_from_weights


@pytest.fixture(params=[".safetensors", ".keras"])
def saved(request, small, tmp_path):
    """Returns a function that writes a network for images of some channels."""

    def write(channels, **arguments):
        shape = (16, 24, channels)
        model = ConvNeXt(**small, include_preprocessing=False, input_shape=shape, **arguments)
        if request.param == ".keras":
            model.save(tmp_path / "a.keras")
        else:
            keras_convnext.save_weights(model, tmp_path / "a.safetensors", format="timm")
        return model, tmp_path / f"a{request.param}"

    return write


@pytest.mark.parametrize("channels", [1, 2, 4, 200])
def test_images_have_the_channels_of_the_file(channels, saved):
    model, file = saved(channels, classes=3)

    again = model_from_weights(file)

    assert again.input_shape == (None, 224, 224, channels)
    assert [weight.path for weight in again.weights] == [weight.path for weight in model.weights]
    for actual, expected in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_arguments_of_ones_own_stay(saved):
    _, file = saved(5, classes=3)
    image = keras.Input((32, 32, 5))

    assert model_from_weights(file, input_shape=(16, 16, 5)).input_shape == (None, 16, 16, 5)
    assert model_from_weights(file, include_top=False).input_shape == (None, None, None, 5)
    assert model_from_weights(file, input_tensor=image).input is image
    with pytest.raises(ValueError, match="needs 3 channels. Received images of 5 channels"):
        model_from_weights(file, include_preprocessing=True)


def test_a_backbone_has_the_channels_of_the_file(saved):
    _, file = saved(4, include_top=False)

    assert model_from_weights(file).input_shape == (None, None, None, 4)


def test_colours_are_normalised_by_default(saved):
    _, file = saved(3, classes=2)

    layers = [layer.name for layer in model_from_weights(file).layers]
    assert "pixel_normalization" in layers


def test_channels_first(saved, channels_first):
    keras.config.set_image_data_format("channels_last")
    _, file = saved(2, classes=3)
    keras.config.set_image_data_format("channels_first")

    assert model_from_weights(file).input_shape == (None, 2, 224, 224)


def test_the_builder_takes_the_channels_of_its_weights(small, saved):
    _, file = saved(6, classes=3)

    model = ConvNeXt(**small, weights=file, include_preprocessing=False)

    assert model.input_shape == (None, 224, 224, 6)


def test_a_conversion_to_a_file_of_keras_keeps_the_channels(saved, tmp_path):
    _, file = saved(7, classes=3)

    keras_convnext.convert_weights(file, tmp_path / "b.keras")

    assert keras.saving.load_model(tmp_path / "b.keras").input_shape == (None, 224, 224, 7)
