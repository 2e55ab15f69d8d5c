"""A SavedModel, called by a process that has TensorFlow and nothing of ours."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from keras_convnext import Predictor
from keras_convnext.errors import MissingPackage, RunError
from keras_convnext.serving import saved_model
from keras_convnext.serving.saved_model import write_saved_model

SIZE, CLASSES = 16, 7
ROUNDING = 2e-3  # of pixels by 1 of 255, between TensorFlow's resizing and Pillow's
ORIENTATION = 0x0112  # of EXIF

# Loads a SavedModel, runs both signatures on what is in a folder, and writes what they give.
SERVER = """
import json, sys
from pathlib import Path
import numpy as np
import tensorflow as tf

model_path, folder = Path(sys.argv[1]), Path(sys.argv[2])
by_tensorflow = {name for name in sys.modules if name.split(".")[0] == "keras"}
model = tf.saved_model.load(str(model_path))
images, files = model.signatures["serving_default"], model.signatures["serve_files"]

found = {"specs": {}}
for name, signature in (("images", images), ("files", files)):
    spec = signature.structured_input_signature[1][name]
    found["specs"][name] = [str(spec.dtype.name), list(spec.shape)]
batch = np.load(folder / "images.npy")
for size in (1, 3, 5):
    found[f"images {size}"] = images(images=tf.constant(batch[:size]))["probabilities"].numpy()
names = sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png"))
encoded = tf.constant([path.read_bytes() for path in names])
for name, value in files(files=encoded).items():
    found[name] = value.numpy()
found["labels"] = [[label.decode() for label in row] for row in found["labels"].tolist()]
found["errors"] = [error.decode() for error in found["errors"].tolist()]
found["ours"] = [name for name in sys.modules if name.startswith("keras_convnext")]
found["keras"] = [n for n in sys.modules if n.split(".")[0] == "keras" and n not in by_tensorflow]
print(json.dumps(found, default=lambda array: array.tolist()))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_images):
    """Image files of different sizes and kinds, and a batch of images."""
    folder = tmp_path_factory.mktemp("requests")
    for number, name in enumerate(("a.jpg", "b.png", "c.jpg")):
        write_images(folder, {name: 60 + 50 * number}, (20 + 9 * number, 31 - 4 * number))
    lying = Image.Exif()
    lying[ORIENTATION] = 6
    with Image.open(folder / "a.jpg") as upright:
        upright.save(folder / "d.jpg", exif=lying)
    images = np.random.default_rng(0).uniform(0, 255, (5, SIZE, SIZE, 3))
    np.save(folder / "images.npy", images.astype("float32"))
    return folder


# The two kinds of model are written and called once each, and share nothing.
@pytest.fixture(
    scope="module",
    params=[
        pytest.param(None, id="logits"),
        pytest.param("softmax", id="probabilities", marks=pytest.mark.backend_free),
    ],
)
def served(request, classifier, tmp_path_factory, folder):
    """A predictor, and what its SavedModel gave elsewhere."""
    names = tuple(f"class {letter}" for letter in "abcdefg")
    predictor = Predictor.of_model(classifier(request.param), names)
    path = tmp_path_factory.mktemp("served") / "parent/1"
    write_saved_model(predictor, path)
    process = subprocess.run(
        [sys.executable, "-c", SERVER, path, folder],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return predictor, json.loads(process.stdout.splitlines()[-1])


def test_signatures_take_batches_of_any_size(served):
    _, found = served
    assert found["specs"] == {
        "images": ["float32", [None, SIZE, SIZE, 3]],
        "files": ["string", [None]],
    }


def test_serving_needs_neither_this_package_nor_keras(served):
    _, found = served
    assert found["ours"] == found["keras"] == []


def test_images_get_the_classifiers_probabilities(served, folder):
    predictor, found = served
    images = np.load(folder / "images.npy")
    expected = predictor.classifier.predict_on_batch(images)
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-5)
    assert expected.std() > 0.01  # or any output would do
    for size in (1, 3, 5):
        np.testing.assert_allclose(found[f"images {size}"], expected[:size], atol=1e-5)


def test_files_get_the_predictors_labels_and_scores(served, folder):
    predictor, found = served
    files = sorted(path for path in folder.iterdir() if path.suffix != ".npy")
    expected = predictor.predict(files, top=5)
    assert found["labels"] == [[prediction.label for prediction in best] for best in expected]
    scores = [[prediction.probability for prediction in best] for best in expected]
    np.testing.assert_allclose(found["scores"], scores, atol=ROUNDING)
    assert found["errors"] == [""] * len(files)
    everything = [
        {prediction.label: prediction.probability for prediction in best}
        for best in predictor.predict(files, top=CLASSES)
    ]
    rows = [[row[name] for name in predictor.class_names] for row in everything]
    np.testing.assert_allclose(found["probabilities"], rows, atol=ROUNDING)


@pytest.fixture(scope="module")
def predictor(classifier):
    return Predictor.of_model(classifier())


@pytest.mark.backend_free
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_existing_files_are_not_replaced(predictor, tmp_path, kind):
    taken = tmp_path / "taken"
    taken.mkdir() if kind == "directory" else taken.write_text("")
    with pytest.raises(RunError, match="taken exists already; remove it, or choose another"):
        write_saved_model(predictor, taken)


@pytest.mark.backend_free
def test_tensorflow_is_asked_for_where_it_is_missing(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(saved_model, "has_tensorflow", lambda: False)
    with pytest.raises(MissingPackage, match=r"TensorFlow.*\[tensorflow\]"):
        write_saved_model(predictor, tmp_path / "model")
