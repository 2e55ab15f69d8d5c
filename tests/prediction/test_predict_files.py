"""Predictions for many files: their memory, their output, and what is done about bad ones."""

import csv
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from keras_convnext import Predictor
from keras_convnext.errors import DataError, MissingPackage, RunError, UserError
from keras_convnext.prediction import output as output_module
from keras_convnext.prediction import predict_files as module
from keras_convnext.prediction.explain import overlay
from keras_convnext.prediction.predict_files import predict_files
from keras_convnext.tasks import prediction_batches

pytestmark = pytest.mark.backend_free


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    inputs = keras.Input((8, 8, 3))
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    keras.Model(inputs, keras.layers.Dense(3)(features)).save(path)
    return path


@pytest.fixture(scope="module")
def images(write_images, tmp_path_factory):
    """Seventy images, of which two cannot be read."""
    names = {f"{number:02}.png": 3 * number for number in range(70)}
    folder = write_images(tmp_path_factory.mktemp("images"), names)
    (folder / "07.png").write_text("Paris, in May")
    (folder / "40.png").write_bytes((folder / "41.png").read_bytes()[:60])
    return folder


def test_a_bad_image_ends_it_or_is_left_out(model, images, caplog):
    with pytest.raises(DataError, match=r"07\.png cannot be read as an image"):
        list(predict_files(model, [images]))
    rows = list(predict_files(model, [images], top=2, on_bad_image="skip"))
    assert [Path(row.image).name for row in rows] == [f"{number:02}.png" for number in range(70)]
    assert [number for number, row in enumerate(rows) if row.error] == [7, 40]
    assert {len(row.predictions) for row in rows if not row.error} == {2}
    assert "Left out 2 images of 70: " in caplog.text and "40.png" in caplog.text
    with pytest.raises(DataError, match="None of 1 file can be read as an image"):
        list(predict_files(model, [images / "07.png"], on_bad_image="skip"))


def test_images_are_read_as_they_are_needed(model, images, monkeypatch):
    read = []
    prepare = prediction_batches.Preprocessor.__call__
    monkeypatch.setattr(
        prediction_batches.Preprocessor,
        "__call__",
        lambda self, image: read.append(image) or prepare(self, image),
    )
    predictor = Predictor.load(model)
    many = (images / "01.png" for _ in range(10_000))
    next(predictor.stream(many))
    assert len(read) <= 2 * prediction_batches.BATCH_SIZE + 32


@pytest.mark.parametrize(("count", "shown"), [(3, False), (40, True)])
def test_a_progress_bar_shows_where_there_are_many(model, images, monkeypatch, count, shown):
    disabled, track = [], module.track
    monkeypatch.setattr(
        module, "track", lambda *a, disable, **k: disabled.append(disable) or track(*a, **k)
    )
    assert len(list(predict_files(model, [images / "00.png"] * count, top=1))) == count
    assert disabled == [not shown]


def read(path):
    """Returns the images, the first labels or features, and the errors of an output file."""
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        first = [row.get("predictions", row.get("features", [None]))[0] for row in rows]
        return rows, [one and one["label"] if isinstance(one, dict) else one for one in first]
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return rows, [row.get("label_1", row.get("feature_0")) or None for row in rows]
    import pyarrow.parquet as pq

    rows = pq.read_table(path).to_pylist()
    column = "labels" if "labels" in rows[0] else "features"
    return rows, [row[column] and row[column][0] for row in rows]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_are_written(model, images, tmp_path, suffix):
    path = tmp_path / "new" / f"out{suffix}"
    rows = list(predict_files(model, [images], on_bad_image="skip", output=path))
    written, labels = read(path)
    assert [row["image"] for row in written] == [row.image for row in rows]
    assert labels == [row.predictions[0].label if row.predictions else None for row in rows]
    assert [row.get("error") or None for row in written] == [row.error for row in rows]
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(RunError, match="exists already"):
        list(predict_files(model, [images], output=path))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_features_are_what_the_last_layer_is_given(model, images, tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    rows = list(predict_files(model, [images / "03.png"], features=True, output=path))
    predictor = Predictor.load(model)
    expected = predictor.preprocessor(images / "03.png").mean(axis=(0, 1)) / 255
    np.testing.assert_allclose(rows[0].features, expected, rtol=1e-5)
    _, (first,) = read(path)
    assert float(first) == pytest.approx(expected[0], rel=1e-5)


@pytest.mark.parametrize("after", [1, 31, 45, 69])
def test_an_interrupted_output_is_resumed(model, images, tmp_path, monkeypatch, after):
    def run(path, stop=None):
        rows = predict_files(model, [images], top=1, on_bad_image="skip", output=path)
        for number, _ in enumerate(rows, 1):
            if number == stop:
                return  # as if the process had ended here

    run(tmp_path / "whole.csv")
    path = tmp_path / "resumed.csv"
    run(path, stop=after)
    assert not path.exists()
    partial = path.with_name("resumed.csv.partial")
    partial.write_bytes(partial.read_bytes()[:-5])  # a line that was not complete
    predicted = []
    predict = prediction_batches.predict_batch
    monkeypatch.setattr(
        prediction_batches,
        "predict_batch",
        lambda model, images: predicted.extend(images) or predict(model, images),
    )
    run(path)
    assert path.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert len(predicted) == (68 if after <= 32 else 68 - 31 if after <= 64 else 68 - 62)


def test_an_output_of_other_images_or_settings_is_not_resumed(model, images, tmp_path):
    path = tmp_path / "out.csv"
    rows = predict_files(model, [images], on_bad_image="skip", output=path)
    for _ in range(40):
        next(rows)
    rows.close()
    with pytest.raises(RunError, match="begun with other settings"):
        list(predict_files(model, [images], top=1, on_bad_image="skip", output=path))
    others = [images / f"{number:02}.png" for number in range(1, 40)]
    with pytest.raises(RunError, match=r"begun with other images: it has .*00\.png where there is"):
        list(predict_files(model, others, on_bad_image="skip", output=path))
    with pytest.raises(RunError, match="where there is nothing now"):
        list(predict_files(model, [images / "00.png"], on_bad_image="skip", output=path))


def test_an_output_that_cannot_be_is_refused_first(images, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"must end in \.csv, \.jsonl, \.parquet"):
        list(predict_files("no model", [images], output=tmp_path / "out.xlsx"))
    monkeypatch.setattr(output_module, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"keras-convnext\[parquet\]"):
        list(predict_files("no model", [images], output=tmp_path / "out.parquet"))


def test_pictures_show_what_speaks_for_a_class(model, images, tmp_path):
    paths = [images / "06.png", images / "07.png"]
    rows = list(predict_files(model, paths, on_bad_image="skip", explain=tmp_path / "why"))
    assert [bool(row.error) for row in rows] == [False, True]
    (path,) = (tmp_path / "why").iterdir()
    with Image.open(path) as picture:
        assert (path.name, picture.size, picture.mode) == ("1_06.png", (224, 224), "RGB")
    with pytest.raises(UserError, match="name none"):
        list(predict_files(model, paths, features=True, explain=tmp_path / "why"))


def test_an_overlay_colours_the_evidence_and_leaves_the_rest():
    pixels = np.full((112, 224, 1), 200.0)
    heat = np.zeros((112, 224), "float32")
    heat[:, 112:] = 1
    picture = np.asarray(overlay(pixels, heat)).astype(int)
    assert picture.shape == (224, 448, 3)
    assert (picture[:, :200] == 200).all()
    red, green, blue = picture[100, 400]
    assert red > 200 > green + 50 and abs(green - blue) < 5
