import errno
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_convnext.errors import MissingPackage
from keras_convnext.evaluation.classification import Evaluation
from keras_convnext.evaluation.report import write_report
from keras_convnext.files import WriteError

pytestmark = pytest.mark.backend_free

PICTURES = ("curves", "confusion_matrix", "mistakes")
METRICS = [
    {
        "epoch": epoch,
        "loss": 1 / epoch,
        "val_loss": 2 / epoch,
        "accuracy": 0.1 * epoch,
        "val_accuracy": 0.05 * epoch,
        "learning_rate": 1e-3 / epoch,
    }
    for epoch in (1, 2, 3)
]


def evaluation_of(classes, images, mistakes, names=None):
    """An evaluation in which the first `mistakes` images are taken for the class after theirs."""
    labels = np.arange(images) % classes
    taken_for = labels.copy()
    taken_for[:mistakes] = (labels[:mistakes] + 1) % classes
    probabilities = np.full((images, classes), 0.1 / classes)
    probabilities[np.arange(images), taken_for] += 0.9
    return Evaluation(labels, probabilities, names or tuple(f"class {i}" for i in range(classes)))


def report(directory, evaluation, metrics=METRICS):
    images = np.random.default_rng(0).integers(0, 256, (len(evaluation.labels), 8, 8, 3), "uint8")
    write_report(directory, metrics, evaluation, lambda index: images[index])
    return {name: np.asarray(Image.open(directory / f"{name}.png")) for name in PICTURES}


@pytest.mark.parametrize(
    ("classes", "mistakes"), [(3, 4), (3, 0), (40, 30)], ids=["few", "no mistakes", "40 classes"]
)
def test_pictures_are_drawn(tmp_path, classes, mistakes):
    evaluation = evaluation_of(classes, 60, mistakes)
    pictures = report(tmp_path / "new/report", evaluation)
    for name, pixels in pictures.items():
        assert np.ptp(pixels[..., :3]) > 100, f"{name} is blank"
    written = json.loads((tmp_path / "new/report/evaluation.json").read_text())
    assert written == evaluation.summary()


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(self, path, **_):
        Path(path).write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(WriteError, match="report cannot be written: No space left on device"):
        report(tmp_path / "report", evaluation_of(2, 4, 1))
    assert list(tmp_path.iterdir()) == []


def test_no_more_mistakes_are_drawn_than_fit(tmp_path):
    some = report(tmp_path / "some", evaluation_of(3, 60, 24))["mistakes"]
    many = report(tmp_path / "many", evaluation_of(3, 60, 60))["mistakes"]
    assert some.shape == many.shape


def test_a_run_of_one_epoch_has_curves(tmp_path):
    assert np.ptp(report(tmp_path, evaluation_of(2, 4, 1), METRICS[:1])["curves"]) > 100


@pytest.mark.parametrize("name", ["$5", "a_$x^{2$", "<&>%{}\\", "with spaces"])
def test_class_names_may_hold_any_sign(tmp_path, name):
    # Matplotlib takes what stands between two dollars for a formula.
    report(tmp_path, evaluation_of(2, 4, 2, (name, f"{name} $")))


def test_class_names_may_be_in_a_script_the_font_lacks(tmp_path):
    with pytest.warns(UserWarning, match="Glyph .* missing from font"):
        report(tmp_path, evaluation_of(2, 4, 2, ("Äpfel", "猫")))


def test_matplotlib_is_asked_for_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackage, match=r"matplotlib.*pip install 'keras-convnext\[train\]"):
        report(tmp_path, evaluation_of(2, 4, 1))
