"""Predictions, evaluation and exports where TensorFlow is not installed, on JAX and PyTorch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_convnext import Predictor, evaluate

if keras.backend.backend() == "tensorflow":
    pytest.skip("TensorFlow cannot be without itself", allow_module_level=True)

pytestmark = pytest.mark.slow

HELPERS = Path(__file__).parent / "helpers"


def run(*arguments, check=True):
    """Runs Python without TensorFlow, and returns what it printed."""
    paths = [HELPERS / "without_tensorflow", *sys.path]
    process = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
    )
    assert not check or process.returncode == 0, process.stderr
    return process.stdout if check else process.stderr


@pytest.fixture(scope="module")
def model(classifier, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    classifier().save(path)
    return path


@pytest.fixture(scope="module")
def images(write_images, tmp_path_factory):
    """Two images for each of the classifier's seven classes, larger than it takes."""
    names = {f"{i}/{j}.{'jpg' if j else 'png'}": 30 * i + j for i in range(7) for j in range(2)}
    return write_images(tmp_path_factory.mktemp("images"), names, size=(37, 51))


@pytest.fixture(scope="module")
def alone(model, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    return json.loads(run(HELPERS / "predict_alone.py", model, images, folder))


def test_tensorflow_is_not_there(alone):
    assert not alone["tensorflow"]
    assert alone["backend"] == keras.backend.backend()


def test_predictions_are_the_same(alone, model, images):
    predictor = Predictor.load(model)
    files = sorted(images.rglob("*.*"))
    prepared = np.stack([predictor.preprocessor(file) for file in files])
    expected = predictor.classifier.predict(prepared, verbose=0)
    np.testing.assert_allclose(alone["predicted"], expected, rtol=1e-5, atol=1e-7)
    assert alone["labels"] == [best.label for [best] in predictor.predict(files, top=1)]


def test_the_evaluation_is_the_same(alone, model, images):
    expected = evaluate(model, images).summary()
    assert alone["evaluated"].pop("loss") == pytest.approx(expected.pop("loss"), rel=1e-3)
    assert alone["evaluated"] == expected


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_exports_predict_the_same(alone, engine):
    np.testing.assert_allclose(alone[engine], alone["predicted"], rtol=1e-4, atol=1e-6)


def test_the_command_line_predicts(model, images):
    output = run("-m", "keras_convnext", "predict", model, images / "0", "--json")
    assert len(json.loads(output)) == 2


def test_what_needs_tensorflow_says_so(model, tmp_path):
    command = ("-m", "keras_convnext")
    error = run(*command, "train", "quickstart/digits", "--run-dir", tmp_path / "run", check=False)
    assert "TensorFlow, which reads the images, is not installed" in " ".join(error.split())
    error = run(*command, "export", model, "--output", tmp_path / "served", check=False)
    assert "'keras-convnext[tensorflow]'" in "".join(error.split())
