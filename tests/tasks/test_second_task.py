"""A second task, written in the tests alone, through the workflows as they are."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_files import tensors
from PIL import Image
from regression_task import Regression

from keras_convnext import Predictor, cli, evaluate, export, train
from keras_convnext.data.sources.load import digits
from keras_convnext.errors import RecipeError, UserError
from keras_convnext.runs.directory import RunDirectory
from keras_convnext.tasks import registry

ENGINE = {"tensorflow": "openvino", "torch": "onnx"}.get(keras.backend.backend())


pytestmark = pytest.mark.tensorflow_first


@pytest.fixture(scope="module", autouse=True)
def registered():
    """The task, known by a name until the tests of this file are over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "TASKS", dict(registry.TASKS))
        registry.register_task("regression", Regression())
        yield


@pytest.fixture(scope="module")
def recipe(tiny_recipe):
    return tiny_recipe(
        "task=regression",
        "augment={policy: paper, mixup_alpha: 0, cutmix_alpha: 0, label_smoothing: 0}",
        "augment.rand_augment=null",
        "optimizer.ema_decay=0.9",
        "schedule.epochs=3",
        "schedule.learning_rate=0.01",
    )


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    return train(recipe, tmp_path_factory.mktemp("regression") / "run")


def rows_but_seconds(run):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.metrics()]


def test_it_trains_and_keeps_the_epoch_with_the_smallest_error(finished):
    run, evaluation = finished
    rows = run.metrics()
    assert {"loss", "mae", "val_loss", "val_mae", "val_ema_mae"} <= set(rows[0])
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert evaluation.summary()["mean_absolute_error"] == pytest.approx(
        rows[-1]["val_mae"], rel=1e-4
    )
    best = min(row["val_mae"] for row in rows)
    assert evaluate(run.path, checkpoint="best").summary()["mean_absolute_error"] == pytest.approx(
        best, rel=1e-4
    )
    best_ema = min(row["val_ema_mae"] for row in rows)
    found = evaluate(run.path, checkpoint="best_ema").summary()["mean_absolute_error"]
    assert found == pytest.approx(best_ema, rel=1e-4)


def test_it_reports_and_is_finished(finished):
    run, evaluation = finished
    assert {path.name for path in run.report.iterdir()} == {"curves.png", "evaluation.json"}
    results = json.loads(run.results_file.read_text())
    assert results == {"epochs": 3, "validation": evaluation.summary()}


# From the start and from the last epoch on one backend: nothing there depends on the backend.
@pytest.mark.parametrize(
    "trained_epochs",
    [
        pytest.param(0, marks=pytest.mark.backend_free),
        1,
        pytest.param(2, marks=pytest.mark.backend_free),
    ],
)
def test_it_resumes_exactly(finished, recipe, tmp_path, trained_epochs):
    run, evaluation = finished
    stopped = RunDirectory(shutil.copytree(run.path, tmp_path / "run"))
    stopped.results_file.unlink()
    for epoch in range(trained_epochs + 1, 4):
        (stopped.checkpoints / f"epoch_{epoch:04d}.keras").unlink()
    if not trained_epochs:
        stopped.last_model.unlink()
    settings = recipe.export.model_copy(update={"saved_model": False})
    again, evaluation_again = train(recipe.model_copy(update={"export": settings}), stopped.path)
    assert rows_but_seconds(again) == rows_but_seconds(run)
    np.testing.assert_array_equal(evaluation_again.values, evaluation.values)
    for name in ("last_model", "best_model", "best_ema_model"):
        ours, theirs = tensors(getattr(again, name)), tensors(getattr(run, name))
        assert ours.keys() == theirs.keys()
        for key in ours:
            np.testing.assert_array_equal(ours[key], theirs[key], err_msg=f"{name}: {key}")


def test_it_is_evaluated_on_a_folder(finished, tmp_path):
    _, test = digits()
    for label in range(10):
        for number in np.flatnonzero(test.labels == label)[:2]:
            path = tmp_path / str(label) / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(test.images[number]).save(path)
    found = evaluate(finished[0].path, tmp_path)
    assert found.truth.tolist() == [label for label in range(10) for _ in range(2)]
    assert found.summary()["images"] == 20


def test_it_is_exported(finished, tmp_path):
    run, evaluation = finished
    images = np.random.default_rng(0).uniform(0, 255, (3, 16, 16, 3)).astype("float32")
    model = keras.saving.load_model(run.last_model, compile=False)
    expected = model.predict_on_batch(images)

    served = tf.saved_model.load(str(run.saved_model))
    found = served.signatures["serving_default"](images=tf.constant(images))
    assert list(found) == ["value"]
    np.testing.assert_allclose(found["value"].numpy(), expected, atol=1e-4)
    metadata = json.loads((run.saved_model / "assets.extra/keras_convnext.json").read_text())
    assert metadata["unit"] == "digits" and metadata["image_size"] == 16

    _, test = digits()
    Image.fromarray(test.images[0]).save(tmp_path / "digit.png")
    encoded = tf.constant([(tmp_path / "digit.png").read_bytes()])
    found = served.signatures["serve_files"](files=encoded)
    assert sorted(found) == ["errors", "value"]
    np.testing.assert_allclose(found["value"].numpy()[0, 0], evaluation.values[0], atol=1e-3)


@pytest.mark.skipif(ENGINE is None, reason="JAX writes for no engine in its own process")
def test_it_is_exported_for_an_engine(finished, tmp_path):
    images = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype("float32")
    expected = keras.saving.load_model(finished[0].last_model, compile=False).predict_on_batch(
        images
    )
    if ENGINE == "onnx":
        import onnxruntime

        path = export(finished[0].path, tmp_path / "model.onnx", "onnx")
        found = onnxruntime.InferenceSession(path).run(["value"], {"images": images})[0]
    else:
        import openvino

        path = export(finished[0].path, tmp_path / "model.xml", "openvino")
        exact = {"INFERENCE_PRECISION_HINT": "f32"}
        found = openvino.Core().compile_model(path, "CPU", exact)(images)["value"]
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.backend_free
def test_the_command_line_prints_its_figures(finished, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["keras-convnext", "evaluate", str(finished[0].path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    printed = capsys.readouterr().out
    assert "mean_absolute_error" in printed and "360" in printed


@pytest.mark.backend_free
def test_it_names_no_classes(finished):
    with pytest.raises(UserError, match=r"is not a classifier\. .* for the task classification"):
        Predictor.load(finished[0].path)


@pytest.mark.backend_free
def test_a_recipe_is_checked_by_its_task_before_anything_is_written(tiny_recipe, tmp_path):
    mixed = tiny_recipe("task=regression", "augment={policy: paper}")
    with pytest.raises(RecipeError, match="mixes no images"):
        train(mixed, tmp_path / "run")
    with pytest.raises(RecipeError, match="task must be one of classification, regression. Rec"):
        train(tiny_recipe("task=captioning"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.backend_free
def test_a_run_made_before_there_were_tasks_is_of_classification(trained, tmp_path):
    run = RunDirectory(shutil.copytree(trained[0].path, tmp_path / "run"))
    text = run.recipe_file.read_text()
    run.recipe_file.write_text(text.replace("task: classification\n", ""))
    assert "task" not in run.recipe_file.read_text()
    assert run.recipe().task == "classification"
    assert len(Predictor.load(run.path).class_names) == 10
