"""Weights of RGB images in networks for images of other channels, against timm's `in_chans`."""

import logging

import keras
import numpy as np
import pytest
import timm
import torch

import keras_convnext
from keras_convnext import ConvNeXt
from keras_convnext.errors import WeightsError
from keras_convnext.weights.stem import adapt_channels, can_adapt

SIZES = {"depths": (1, 1, 1, 1), "dims": (4, 8, 12, 16)}
OPTIONS = {"include_preprocessing": False, "classifier_activation": None, "classes": 3}


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = timm.models.convnext.ConvNeXt(**SIZES, num_classes=3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return network.eval()


@pytest.fixture
def file(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "rgb.pth")
    return tmp_path / "rgb.pth"


@pytest.mark.parametrize("channels", [1, 2, 4, 6, 7, 12])
def test_the_network_gives_what_timms_gives(channels, network, file, caplog):
    caplog.set_level(logging.WARNING, "keras_convnext")
    images = np.random.default_rng(0).normal(size=(2, 32, 32, channels)).astype("float32")

    model = ConvNeXt(**SIZES, **OPTIONS, weights=file, input_shape=(32, 32, channels))

    weights = network.state_dict()
    weights["stem.0.weight"] = timm.models.adapt_input_conv(channels, weights["stem.0.weight"])
    theirs = timm.models.convnext.ConvNeXt(**SIZES, num_classes=3, in_chans=channels).eval()
    theirs.load_state_dict(weights)
    with torch.no_grad():
        expected = theirs(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, rtol=1e-4, atol=1e-4)
    (message,) = (r.getMessage() for r in caplog.records if r.name.startswith("keras_convnext"))
    assert f"takes images of {channels} channels and that of {file} takes RGB" in message


def test_a_grey_image_has_the_outputs_of_its_rgb_copy(network, file):
    grey = np.random.default_rng(0).normal(size=(2, 32, 32, 1)).astype("float32")

    model = ConvNeXt(**SIZES, **OPTIONS, weights=file, input_tensor=keras.Input((32, 32, 1)))

    with torch.no_grad():
        rgb = torch.tensor(grey.transpose(0, 3, 1, 2)).expand(-1, 3, -1, -1)
        expected = network(rgb).numpy()
    np.testing.assert_allclose(model.predict(grey, verbose=0), expected, rtol=1e-4, atol=1e-4)


def test_statistics_of_the_channels_are_the_callers(network, file):
    """With one mean and deviation for all, a grey image again is what its RGB copy is."""
    grey = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 1)).astype("float32")
    options = {**OPTIONS, "include_preprocessing": True, "mean": [0.449], "std": [0.226]}

    model = ConvNeXt(**SIZES, **options, weights=file, input_shape=(32, 32, 1))

    normalized = torch.tensor(((grey / 255 - 0.449) / 0.226).transpose(0, 3, 1, 2))
    with torch.no_grad():
        expected = network(normalized.expand(-1, 3, -1, -1)).numpy()
    np.testing.assert_allclose(model.predict(grey, verbose=0), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"needs 3 channels. Received images of 1 channels. Pass `mean` and `std` with 1 numb"),
        ({"mean": [0.5, 0.5], "std": [0.2, 0.2]}, "needs 2 channels. Received images of 1"),
        ({"mean": [0.5]}, "`mean` and `std` go together"),
        ({"mean": [0.5], "std": [0.0]}, "`std` must be above 0"),
        ({"mean": ["a"], "std": [0.2]}, "`mean` must be a number. Received: 'a'"),
    ],
)
def test_statistics_that_do_not_fit_are_refused_before_the_file_is_opened(options, message):
    with pytest.raises(ValueError, match=message):
        ConvNeXt(**SIZES, weights="no_such.pth", input_shape=(32, 32, 1), **options)


def test_a_file_of_other_channels_is_not_adapted(file, tmp_path):
    model = ConvNeXt(**SIZES, **OPTIONS, input_shape=(32, 32, 5))
    keras_convnext.save_weights(model, tmp_path / "five.safetensors")

    with pytest.raises(WeightsError, match=r"stem/conv/kernel: \(4, 4, 1, 4\) here, \(4, 4, 5, 4"):
        ConvNeXt(**SIZES, **OPTIONS, weights=tmp_path / "five.safetensors", input_shape=(32, 32, 1))


def test_load_weights_stays_strict(file):
    model = ConvNeXt(**SIZES, **OPTIONS, input_shape=(32, 32, 4))

    with pytest.raises(WeightsError, match=r"stem/conv/kernel: \(4, 4, 4, 4\) here, \(4, 4, 3, 4"):
        keras_convnext.load_weights(model, file)


def test_model_from_weights_adapts_and_leaves_the_normalization_out(file):
    model = keras_convnext.model_from_weights(file, input_shape=(32, 32, 6))

    assert model.input_shape == (None, 32, 32, 6)
    assert "pixel_normalization" not in [layer.name for layer in model.layers]


def test_kernels_are_adapted_only_if_the_channels_alone_differ():
    assert can_adapt((4, 4, 1, 8), (4, 4, 3, 8))
    assert not can_adapt((4, 4, 3, 8), (4, 4, 3, 8))
    assert not can_adapt((2, 2, 1, 8), (4, 4, 3, 8))
    assert not can_adapt((4, 4, 1, 8), (4, 4, 4, 8))
    kernel = np.random.default_rng(0).normal(size=(4, 4, 3, 8)).astype("float32")
    assert adapt_channels(kernel, 5).dtype == np.float32
