"""Weights are opened once, and only after everything else was found to be right."""

import numpy as np
import pytest

import keras_convnext
from keras_convnext import ConvNeXt, convert_weights, create_model, model_from_weights
from keras_convnext.catalog.checkpoints import CHECKPOINTS, resolve
from keras_convnext.errors import WeightsError
from keras_convnext.weights import weight_file
from keras_convnext.weights.weight_file import WeightFile, open_weights

SIZES = {"depths": (1, 1), "dims": (4, 8), "kernel_size": 3}
NAME = "convnext_tiny.fb_in1k"


@pytest.fixture
def file(tmp_path):
    return keras_convnext.save_weights(ConvNeXt(**SIZES, classes=2), tmp_path / "a.safetensors")


@pytest.fixture
def opened(monkeypatch):
    """The files that were opened, one after another."""
    paths = []
    initialize = WeightFile.__init__

    def counting(self, path, *args):
        paths.append(path)
        initialize(self, path, *args)

    monkeypatch.setattr(WeightFile, "__init__", counting)
    return paths


@pytest.mark.parametrize(
    "use",
    [
        lambda file, _: ConvNeXt(**SIZES, weights=file),
        lambda file, _: model_from_weights(file),
        lambda file, _: keras_convnext.load_weights(ConvNeXt(**SIZES, classes=2), file),
        lambda file, place: convert_weights(file, place / "b.keras"),
        lambda file, place: convert_weights(file, place / "b.weights.h5"),
        lambda file, place: convert_weights(file, place / "b.pth"),
    ],
)
def test_a_file_is_opened_once(use, file, opened, tmp_path):
    use(file, tmp_path)

    assert opened == [file]


@pytest.fixture
def no_download(monkeypatch):
    def fetch(source):
        raise AssertionError(f"{source} would have been downloaded")

    monkeypatch.setattr(weight_file, "fetch", fetch)


BAD = [
    ({"pooling": "mean"}, "`pooling` must be"),
    ({"classes": 0}, "`classes` must be at least 1"),
    ({"classes": "ten"}, "`classes` must be a whole number"),
    ({"drop_path_rate": 1.0}, "must lie in"),
    ({"layer_scale_init_value": -1.0}, "must be above 0"),
    ({"head_init_scale": "large"}, "`head_init_scale` must be a number"),
    ({"input_shape": (224, 224)}, "An image's shape must be"),
    ({"input_shape": (16, 16, 3)}, "at least 32 pixels"),
    ({"input_shape": (224, 224, 4)}, "needs 3 channels. Received images of 4"),
    ({"input_tensor": np.zeros((1, 64, 64, 3))}, "must be a Keras tensor"),
]


@pytest.mark.usefixtures("no_download")
@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_arguments_are_checked_before_a_download(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_convnext.ConvNeXtTiny(weights="imagenet", **arguments)


@pytest.mark.usefixtures("no_download")
@pytest.mark.parametrize(
    ("arguments", "message"), [bad for bad in BAD if "at least 32" not in bad[1]]
)
def test_model_from_weights_checks_them_too(arguments, message):
    with pytest.raises(ValueError, match=message):
        model_from_weights(NAME, include_preprocessing=True, **arguments)


@pytest.mark.usefixtures("no_download")
def test_other_mistakes_are_found_before_a_download(tmp_path):
    with pytest.raises(TypeError, match="unexpected keyword argument 'clases'"):
        model_from_weights(NAME, clases=10)
    with pytest.raises(WeightsError, match="takes no `format`"):
        convert_weights(NAME, tmp_path / "a.keras", format="timm")
    with pytest.raises(WeightsError, match="Weights are written as .keras"):
        convert_weights(NAME, tmp_path / "a.h5")
    with pytest.raises(WeightsError, match="not of convnext_base"):
        create_model("convnext_base", weights=NAME)


def test_names_are_resolved_to_rows(file):
    row = CHECKPOINTS[NAME]
    assert resolve("fb_in1k", "convnext_tiny") is resolve(NAME) is resolve(row) is row
    assert resolve("fb_in1k") == "fb_in1k"
    assert resolve(file) == file
    one = open_weights(file)
    assert open_weights(one) is one and resolve(one) is one
    assert str(row) == NAME
