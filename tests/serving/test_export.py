"""Exporting by the name of a form, and what is refused before anything is written."""

import dataclasses
import shutil

import keras
import numpy as np
import pytest

from keras_convnext import Predictor, export, train
from keras_convnext.data.sources.load import load_splits
from keras_convnext.errors import RunError, UserError
from keras_convnext.serving import export as exporting
from keras_convnext.serving.export import FORMATS

pytestmark = pytest.mark.backend_free


def onnx_top_1(path, images, labels):
    import onnxruntime

    (probabilities,) = onnxruntime.InferenceSession(path).run(None, {"images": images})
    return (probabilities.argmax(axis=1) == labels).mean()


@pytest.fixture
def run(trained, tmp_path):
    """A run of one's own, to export into its directory."""
    return shutil.copytree(trained[0].path, tmp_path / "run")


def test_a_saved_model_goes_where_it_is_wanted(trained, tmp_path):
    path = export(trained[0].path, tmp_path / "served/1", checkpoint="best")
    assert path == tmp_path / "served/1"
    assert (path / "saved_model.pb").is_file()


def test_an_export_replaces_nothing(trained):
    with pytest.raises(RunError, match="saved_model exists already"):
        export(trained[0].path)


def test_a_runs_own_images_choose_the_ranges_of_int8(run):
    path = export(run, format="openvino", precision="int8")
    assert path == run / "model.xml"
    assert 'element_type="i8"' in path.read_text()


@pytest.mark.slow
def test_int8_keeps_the_accuracy_of_a_trained_run(tiny_recipe, tmp_path):
    settings = ("data.batch_size=64", "model.depths=[1,1]", "model.dims=[8,16]")
    run, _ = train(tiny_recipe(*settings, "export.saved_model=false"), tmp_path / "run")
    validation = load_splits(run.recipe().data)[1]
    predictor = Predictor.load(run.path)
    images = np.stack([predictor.preprocessor(image) for image in validation.images])
    top_1 = {
        precision: onnx_top_1(
            export(run.path, tmp_path / f"{precision}.onnx", "onnx", precision=precision),
            images,
            validation.labels,
        )
        for precision in ("float32", "int8")
    }
    assert top_1["float32"] > 0.3  # of ten classes, after two epochs
    assert abs(top_1["int8"] - top_1["float32"]) < 0.02


@pytest.fixture
def written(monkeypatch):
    """The predictors that were to be written as ONNX."""
    seen = []

    def write(predictor, path):
        seen.append(predictor)

    monkeypatch.setitem(FORMATS, "onnx", dataclasses.replace(FORMATS["onnx"], write=write))
    return seen


def test_a_predictor_is_exported_with_its_names_and_its_size(tmp_path, written):
    inputs = keras.Input((None, None, 3))
    outputs = keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(inputs))
    predictor = Predictor.of_model(keras.Model(inputs, outputs), ("cat", "dog"), (24, 32))
    export(predictor, tmp_path / "model.onnx", "onnx")
    assert written == [predictor]
    with pytest.raises(UserError, match="needs `path`"):
        export(predictor, format="onnx")


@pytest.fixture
def calibration(monkeypatch):
    """The images that a network was to be quantized by, in the place of a network in integers."""
    seen = []

    def write(predictor, path, images):
        seen.extend(images)

    monkeypatch.setitem(FORMATS, "onnx", dataclasses.replace(FORMATS["onnx"], write=write))
    return seen


def test_images_of_a_folder_choose_the_ranges_for_a_model(
    trained, tmp_path, write_images, calibration
):
    folder = write_images(tmp_path / "data", {"0/a.png": 30, "1/b.png": 90, "1/c.png": 200})
    model = keras.saving.load_model(trained[0].last_model, compile=False)
    export(model, tmp_path / "model.onnx", "onnx", precision="int8", data=folder)
    assert [image.shape for image in calibration] == [(16, 16, 3)] * 3
    np.testing.assert_allclose([image.mean() for image in calibration], [30, 90, 200], atol=2)


def test_they_come_from_all_over_a_split(trained, calibration, monkeypatch):
    monkeypatch.setattr(exporting, "CALIBRATION_IMAGES", 3)
    run, _ = trained
    export(run.path, run.path / "new.onnx", "onnx", precision="int8")
    training, _ = load_splits(run.recipe().data)
    prepare = Predictor.load(run.path).preprocessor
    expected = [
        training.images[index] for index in (0, (training.size - 1) // 2, training.size - 1)
    ]
    np.testing.assert_array_equal(calibration, [prepare(image) for image in expected])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"format": "pb"}, "`format` must be one of saved_model, onnx, openvino. Received: 'pb'"),
        ({"format": "onnx", "precision": "int4"}, "`precision` must be one of float32, int8"),
        ({"precision": "int8"}, "saved_model is written in float32 only; for int8 take onnx or"),
        ({"format": "onnx", "data": "folder"}, "`data` goes with `precision` int8"),
        ({"format": "onnx", "path": "model.pb"}, "`path` must end in .onnx. Received: model.pb"),
        ({"format": "onnx", "precision": "int8", "split": "test"}, "`split` goes with `data`"),
    ],
)
def test_what_does_not_go_together_is_refused(trained, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        export(trained[0].path, **arguments)


@pytest.mark.parametrize(
    ("format", "place"),
    [
        ("saved_model", "the directory to write"),
        ("onnx", "the .onnx file to write"),
        ("openvino", "the .xml file to write"),
    ],
)
def test_a_model_needs_a_place_to_be_exported_to(trained, format, place):
    run, _ = trained
    for source in (run.last_model, keras.saving.load_model(run.last_model, compile=False)):
        with pytest.raises(UserError, match=f"needs `path`, {place}"):
            export(source, format=format)


def test_a_model_needs_images_to_be_exported_in_integers(trained, tmp_path):
    with pytest.raises(UserError, match="are chosen by images, and a model that belongs to no run"):
        export(trained[0].last_model, tmp_path / "model.onnx", "onnx", precision="int8")
