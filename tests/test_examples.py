"""Every example runs as its first lines say, in its own process; so do the notebooks."""

import re
from pathlib import Path

import keras
import nbclient
import nbformat
import numpy as np
import pytest
import quick_python
from PIL import Image
from sklearn.datasets import load_digits

import keras_convnext

pytestmark = pytest.mark.backend_free

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name, *arguments, cwd, epochs=1):
    """Returns what an example prints."""
    process = quick_python.run(
        EXAMPLES / f"{name}.py",
        *arguments,
        environment={"EPOCHS": str(epochs)},
        cwd=cwd,
        stderr_apart=True,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def run_notebook(name, monkeypatch, cwd, **environment):
    """Returns what a notebook prints and shows, after all of its cells have run."""
    for key, value in environment.items():
        monkeypatch.setenv(key, str(value))
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(cwd)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in outputs)


def test_all_examples_are_tested():
    files = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    assert files == {
        "feature_pyramid.py",
        "fine_tune.ipynb",
        "fit.py",
        "multi_gpu.py",
        "predict.ipynb",
        "serve.py",
        "transfer_learning.py",
    }


@pytest.fixture
def small_checkpoint(tmp_path):
    """A `.keras` file that stands for a published checkpoint in the notebooks."""
    model = keras_convnext.ConvNeXt((1, 1, 1, 1), (8, 8, 8, 8), input_shape=(64, 64, 3), classes=6)
    model.save(tmp_path / "small.keras")
    return tmp_path / "small.keras"


@pytest.mark.slow
def test_the_notebook_that_predicts(small_checkpoint, tmp_path, monkeypatch):
    shown = run_notebook("predict", monkeypatch, tmp_path, WEIGHTS=small_checkpoint)
    assert shown.count("%") == 2 * 3
    assert "P5 (2, 2, 2, 8)" in shown


@pytest.mark.slow
def test_the_notebook_that_fine_tunes(small_checkpoint, tmp_path, monkeypatch, write_images):
    photos = {
        f"{name}/{number}.png": value
        for name, value in (("day", 220), ("night", 30))
        for number in range(8)
    }
    write_images(tmp_path / "photos", photos, size=(40, 40))
    shown = run_notebook(
        *("fine_tune", monkeypatch, tmp_path),
        WEIGHTS=small_checkpoint,
        IMAGE_SIZE=64,
        EPOCHS=2,
    )
    assert re.search(r"classifier alone: [\d.]+%", shown)
    assert "Prediction(label='day'" in shown
    tuned = keras.saving.load_model(tmp_path / "fine_tuned.keras")
    assert tuned.output_shape == (None, 2)


@pytest.mark.slow
def test_fit_trains_and_saves(tmp_path):
    assert "val_accuracy" in run("fit", cwd=tmp_path)
    assert (tmp_path / "digits.keras").is_file()


def test_feature_pyramid_prints_four_levels(tmp_path):
    printed = run("feature_pyramid", cwd=tmp_path)
    assert printed.splitlines()[-1] == "P5 (1, 8, 10, 768)"


def test_serve_names_what_an_image_shows(trained, tmp_path):
    run_directory, _ = trained
    printed = run("serve", run_directory.saved_model, EXAMPLES / "digit.png", cwd=tmp_path)
    assert len(printed.splitlines()) == 1 + 5


@pytest.fixture
def digits():
    """The scanned digits as RGB images of 32x32 pixels, and what they are."""
    greys, labels = load_digits(return_X_y=True)
    images = [
        Image.fromarray((grey.reshape(8, 8) * (255 / 16)).astype("uint8")).resize((32, 32))
        for grey in greys
    ]
    return np.stack([image.convert("RGB") for image in images]), labels


@pytest.mark.slow
def test_transfer_learning_from_some_digits_to_others(digits, tmp_path):
    images, labels = digits
    stand_in = keras_convnext.ConvNeXt((1, 1, 1), (16, 32, 64), input_shape=(32, 32, 3), classes=5)
    stand_in.compile(keras_convnext.optimizers.AdamW(4e-3), "sparse_categorical_crossentropy")
    stand_in.fit(images[labels < 5], labels[labels < 5], batch_size=64, epochs=8, verbose=0)
    checkpoint = keras_convnext.save_weights(stand_in, tmp_path / "tuned.pth", format="official")
    for place in np.flatnonzero(labels >= 5):
        folder = tmp_path / "photos" / f"digit {labels[place]}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[place]).save(folder / f"{place}.png")

    printed = run(
        "transfer_learning",
        *("photos", "--weights", checkpoint, "--image-size", "32", "--output", "mine"),
        cwd=tmp_path,
        epochs=6,
    )

    accuracy = dict(re.findall(r"(classifier alone|everything): ([\d.]+)%", printed))
    assert 50 < float(accuracy["classifier alone"]) < float(accuracy["everything"])
    assert float(accuracy["everything"]) > 90
    tuned = keras.saving.load_model(tmp_path / "mine.keras")
    assert tuned.output_shape == (None, 5)
    assert not np.array_equal(tuned.get_layer("stem").get_weights()[0], stand_in.get_weights()[0])
    saved = keras_convnext.model_from_weights(
        tmp_path / "mine.safetensors", input_shape=(32, 32, 3)
    )
    np.testing.assert_array_equal(saved.get_weights()[0], tuned.get_weights()[0])
    assert (tmp_path / "mine" / "saved_model.pb").is_file()
