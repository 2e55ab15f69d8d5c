"""The whole path, from a recipe to a served model, with every backend."""

import errno
import importlib.util
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_files import tensors
from PIL import Image

from keras_convnext import Predictor, evaluate, export, imagenet, train
from keras_convnext.data.read_errors import as_data_error
from keras_convnext.data.sources.digits import digits
from keras_convnext.data.sources.folder import image_folder
from keras_convnext.data.sources.load import load_splits
from keras_convnext.errors import DataError, MissingPackage, RunError, UserError
from keras_convnext.runs.checkpoints import Checkpoints
from keras_convnext.runs.directory import RunDirectory
from keras_convnext.tasks import base, source
from keras_convnext.tasks.classification import task


def weights(path):
    return keras.saving.load_model(path, compile=False).get_weights()


def metrics_but_seconds(run):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.metrics()]


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    """Five validation digits of every class as files, and a folder of only some classes."""
    root = tmp_path_factory.mktemp("digits")
    _, test = digits()
    for name in test.class_names:
        for number in np.flatnonzero(test.labels == int(name))[:5]:
            for part in ("all", "some") if name in "37" else ("all",):
                path = root / part / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(test.images[number]).save(path)
    return root


@pytest.fixture
def earlier(tmp_path, tiny_recipe):
    """A finished run's directory, with a model it exported and a file that is not its own."""
    run = RunDirectory(tmp_path / "runs/digits")
    run.create(tiny_recipe())
    run.plan_file.write_text("{}")
    run.finish(None)
    run.saved_model.mkdir()
    (run.path / "notes.txt").write_text("of the person who looked at the run")
    return run.path


def test_a_run_leaves_all_that_is_needed_to_judge_it(trained, tiny_recipe):
    run, evaluation = trained
    assert {path.name for path in run.path.iterdir()} == {
        ".lock",
        "best.keras",
        "best_ema.keras",
        "checkpoints",
        "classes.json",
        "environment.json",
        "last.keras",
        "metrics.jsonl",
        "plan.json",
        "recipe.yaml",
        "report",
        "results.json",
        "saved_model",
        "tensorboard",
    }
    assert {path.name for path in run.report.iterdir()} == {
        "confusion_matrix.png",
        "curves.png",
        "evaluation.json",
        "mistakes.png",
    }
    assert (run.saved_model / "saved_model.pb").is_file()
    assert json.loads(run.results_file.read_text()) == {
        "epochs": 2,
        "validation": evaluation.summary(),
    }
    assert run.recipe() == tiny_recipe()
    assert run.class_names() == tuple("0123456789")
    environment = json.loads(run.environment_file.read_text())
    assert environment["backend"] == keras.backend.backend()
    plan = json.loads(run.plan_file.read_text())
    assert (plan["training_images"], plan["validation_images"]) == (1437, 360)
    assert (plan["steps_per_epoch"], plan["total_updates"], plan["warmup_updates"]) == (5, 10, 5)
    assert json.loads((run.report / "evaluation.json").read_text()) == evaluation.summary()


def test_the_metrics_are_those_of_every_epoch(trained):
    run, evaluation = trained
    first, last = run.metrics()
    assert list(first) == [
        "epoch",
        "seconds",
        "accuracy",
        "loss",
        "val_accuracy",
        "val_loss",
        "learning_rate",
        "val_ema_accuracy",
        "val_ema_loss",
    ]
    assert (first["epoch"], last["epoch"]) == (1, 2)
    # Five updates of warm-up end at the peak; five of the cosine at the final rate.
    assert first["learning_rate"] == pytest.approx(2e-3)
    assert last["learning_rate"] == pytest.approx(1e-6, rel=1e-3)
    # The evaluation is of the weights after the last epoch.
    assert evaluation.top(1) == pytest.approx(last["val_accuracy"])


@pytest.mark.tensorflow_first
def test_a_run_repeats_with_its_seed(trained, tiny_recipe, earlier):
    first, first_evaluation = trained
    again, evaluation = train(tiny_recipe("export.saved_model=false"), earlier, overwrite=True)
    assert not again.saved_model.exists()  # nothing is left of the run that was here,
    assert (earlier / "notes.txt").exists()  # and what was not its own stays
    assert metrics_but_seconds(again) == metrics_but_seconds(first)
    for ours, theirs in zip(weights(again.last_model), weights(first.last_model), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(evaluation.probabilities, first_evaluation.probabilities)


@pytest.mark.slow
@pytest.mark.backend_free
def test_a_run_with_the_papers_augmentation_repeats(tiny_recipe, tmp_path):
    settings = ["augment={policy: paper, label_smoothing: 0.3}", "export.saved_model=false"]
    recipe = tiny_recipe(*settings, "schedule.epochs=1", "schedule.warmup_epochs=0")
    (first, evaluation), (again, _) = (train(recipe, tmp_path / str(n)) for n in (1, 2))
    assert metrics_but_seconds(again) == metrics_but_seconds(first)
    for ours, theirs in zip(weights(again.last_model), weights(first.last_model), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # The validation loss is smoothed as the training loss is, under this policy as under any.
    logarithms = np.log(evaluation.probabilities)
    smoothed = 0.7 * np.eye(10)[evaluation.labels] + 0.3 / 10
    expected = -(smoothed * logarithms).sum(axis=-1).mean()
    assert first.metrics()[-1]["val_loss"] == pytest.approx(expected, rel=1e-4)


def stopped_after_its_first_epoch(run, path):
    """Returns a copy of a finished run, as it would be had it been stopped in its second epoch."""
    copy = RunDirectory(shutil.copytree(run.path, path))
    copy.results_file.unlink()
    (copy.checkpoints / "epoch_0002.keras").unlink()
    return copy


def assert_the_same_but_for_seconds(run, expected):
    assert metrics_but_seconds(run) == metrics_but_seconds(expected)
    ours, theirs = tensors(run.last_model), tensors(expected.last_model)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_a_run_resumes_after_it_was_stopped(trained, tiny_recipe, tmp_path, capsys):
    run, evaluation = trained
    stopped = stopped_after_its_first_epoch(run, tmp_path / "run")
    again, evaluation_again = train(tiny_recipe("export.saved_model=false"), stopped.path)
    assert f"Resuming {stopped.path} after epoch 1 of 2" in capsys.readouterr().err
    assert_the_same_but_for_seconds(again, run)
    np.testing.assert_array_equal(evaluation_again.probabilities, evaluation.probabilities)
    assert not again.saved_model.exists()  # as it was asked for now
    assert again.recipe() == tiny_recipe("export.saved_model=false")
    assert json.loads(again.results_file.read_text()) == json.loads(run.results_file.read_text())


@pytest.mark.slow
# On every backend with what float16 adds, the scale of the loss.
@pytest.mark.parametrize(
    "precision",
    ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.backend_free)],
)
def test_a_run_in_lower_precision_resumes_after_it_was_stopped(tiny_recipe, tmp_path, precision):
    recipe = tiny_recipe(
        f"runtime.precision={precision}",
        "optimizer.ema_decay=0.9",
        "augment={policy: paper, rand_augment: null}",
        "export.saved_model=false",
    )
    run, _ = train(recipe, tmp_path / "unbroken")
    assert all(np.isfinite(list(row.values())).all() for row in run.metrics())
    scales = [name for name in tensors(run.last_model) if name.startswith("optimizer/inner")]
    assert bool(scales) == (precision == "mixed_float16")
    stopped = stopped_after_its_first_epoch(run, tmp_path / "run")
    assert_the_same_but_for_seconds(train(recipe, stopped.path)[0], run)
    assert keras.config.dtype_policy().name == "float32"  # as before


@pytest.mark.backend_free
def test_an_unfinished_run_can_be_used_and_is_not_confused_with_another(
    trained, tiny_recipe, tmp_path, monkeypatch
):
    stopped = stopped_after_its_first_epoch(trained[0], tmp_path / "run")
    assert evaluate(stopped.path).top(1) > 0
    with pytest.raises(RunError, match=r"model\.drop_path_rate: 0\.1 in the run, 0\.2 now"):
        train(tiny_recipe("model.drop_path_rate=0.2"), stopped.path)
    environment = json.loads(stopped.environment_file.read_text())
    stopped.environment_file.write_text(json.dumps({**environment, "backend": "numpy"}))
    with pytest.raises(RunError, match="was started on numpy"):
        train(tiny_recipe(), stopped.path)
    stopped.environment_file.write_text(json.dumps(environment))
    plan = json.loads(stopped.plan_file.read_text())
    stopped.plan_file.write_text(json.dumps({**plan, "training_images": 1438}))
    with pytest.raises(RunError, match="training images: 1438 in the run, 1437 now"):
        train(tiny_recipe(), stopped.path)
    with stopped.locked(), pytest.raises(RunError, match="Another process is training"):
        train(tiny_recipe(), stopped.path)
    assert metrics_but_seconds(stopped) == metrics_but_seconds(trained[0])  # nothing was touched


@pytest.mark.backend_free
def test_a_run_may_have_no_validation_images(tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "load_splits", lambda data: (load_splits(data)[0], None))
    recipe = tiny_recipe("data.validation_split=null", "optimizer.ema_decay=0.9")
    run, evaluation = train(recipe, tmp_path / "run")
    assert evaluation is None
    assert set(run.metrics()[-1]) == {"epoch", "seconds", "accuracy", "loss", "learning_rate"}
    assert [path.name for path in run.report.iterdir()] == ["curves.png"]
    assert (run.saved_model / "saved_model.pb").is_file()
    assert not run.best_model.exists() and not run.best_ema_model.exists()
    assert json.loads(run.results_file.read_text()) == {"epochs": 2, "validation": None}
    with pytest.raises(UserError, match=r"has no validation images: .*--data on the command line"):
        evaluate(run.path)
    with pytest.raises(RunError, match="Use 'last'"):
        evaluate(run.path, checkpoint="best")


@pytest.mark.backend_free
def test_a_report_that_does_not_fit_on_the_disk_is_said_and_made_later(
    trained, tiny_recipe, tmp_path, monkeypatch
):
    stopped = RunDirectory(shutil.copytree(trained[0].path, tmp_path / "run"))
    stopped.results_file.unlink()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "curves.png")

    with monkeypatch.context() as patch:
        patch.setattr(task, "write_report", full)
        with pytest.raises(RunError, match=r"curves.png cannot be written: No space .* is done"):
            train(tiny_recipe(), stopped.path)
    assert not stopped.is_finished()
    train(tiny_recipe(), stopped.path)
    assert stopped.is_finished() and (stopped.report / "curves.png").exists()


def test_a_run_is_evaluated_as_when_it_was_trained(trained):
    run, evaluation = trained
    again = evaluate(run.path)
    np.testing.assert_allclose(again.probabilities, evaluation.probabilities, atol=1e-6)
    assert again.summary()["mistakes"] == evaluation.summary()["mistakes"]


def test_a_run_is_evaluated_on_a_folder(trained, held_out):
    run, evaluation = trained
    found = evaluate(run.path, held_out / "some")
    assert found.labels.tolist() == [3] * 5 + [7] * 5  # numbered as in training
    assert found.class_names == tuple("0123456789")
    numbers = [int(path.stem) for path in sorted((held_out / "some").rglob("*.png"), key=str)]
    np.testing.assert_allclose(found.probabilities, evaluation.probabilities[numbers], atol=1e-5)


@pytest.mark.backend_free
def test_the_best_state_is_evaluated_on_request(trained):
    run, _ = trained
    best = max(row["val_accuracy"] for row in run.metrics())
    assert evaluate(str(run.path), checkpoint="best").top(1) == pytest.approx(best)


# tasks/test_second_task.py does so on every backend, with another metric.
@pytest.mark.backend_free
def test_the_average_of_the_weights_is_evaluated_beside_them(tiny_recipe, tmp_path):
    settings = ("optimizer.ema_decay=0.9", "optimizer.layer_decay=0.9", "export.saved_model=false")
    run, _ = train(tiny_recipe(*settings), tmp_path / "run")
    rows = run.metrics()
    assert all(row["val_ema_loss"] != row["val_loss"] for row in rows)
    best = max(row["val_ema_accuracy"] for row in rows)
    assert evaluate(run.path, checkpoint="best_ema").top(1) == pytest.approx(best)


@pytest.mark.backend_free
def test_a_run_without_an_average_says_so(tiny_recipe, tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.create(tiny_recipe("optimizer.ema_decay=null"))
    with pytest.raises(RunError, match=r"kept no moving average .* no optimizer.ema_decay"):
        evaluate(run.path, checkpoint="best_ema")


@pytest.mark.backend_free
def test_a_model_is_evaluated_on_a_folder(trained, held_out):
    evaluation = evaluate(trained[0].last_model, held_out / "all")
    assert evaluation.class_names == tuple("0123456789")
    assert evaluation.summary()["images"] == 50


def of_brightness(shape, activation):
    """A model that ends in one output: how bright an image is, about 128."""
    inputs = keras.Input(shape)
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(0.1, -12.8)(inputs))
    return keras.Model(inputs, keras.layers.Dense(1, activation, kernel_initializer="ones")(mean))


def test_a_model_of_one_sigmoid_tells_two_folders_apart(tmp_path, write_images):
    """With images that are grey and not square, made of the folders' RGB ones."""
    of_brightness((20, 28, 1), "sigmoid").save(tmp_path / "model.keras")
    names = {"dark/1.png": 40, "dark/2.png": 70, "light/1.png": 200, "light/2.png": 60}
    found = evaluate(tmp_path / "model.keras", write_images(tmp_path / "images", names))
    assert found.class_names == ("dark", "light") and found.probabilities.shape == (4, 2)
    assert found.predictions.tolist() == [0, 0, 1, 0]
    light = 1 / (1 + np.exp(12.8 - 0.1 * np.array([40, 70, 200, 60])))
    np.testing.assert_allclose(found.probabilities, np.stack([1 - light, light], 1), atol=0.05)


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("shape", "activation", "sentence"),
    [
        ((16, 16, 3), None, "may be a logit or the value of a regression"),
        ((16, 16, 3), "softmax", "1.0 for every image"),
        ((16, 16, 4), "sigmoid", "takes images of 4 channels, and image files can be turned"),
    ],
)
def test_a_model_that_cannot_be_evaluated_on_files_is_refused(
    tmp_path, write_images, shape, activation, sentence
):
    of_brightness(shape, activation).save(tmp_path / "model.keras")
    data = write_images(tmp_path / "images", {"dark/1.png": 40, "light/1.png": 200})
    with pytest.raises(UserError, match=sentence):
        evaluate(tmp_path / "model.keras", data)


@pytest.mark.backend_free
def test_a_model_needs_as_many_class_folders_as_classes(trained, held_out):
    with pytest.raises(DataError, match="10 classes apart, but .*some holds 2"):
        evaluate(trained[0].last_model, held_out / "some")


@pytest.mark.backend_free
def test_a_published_checkpoint_is_evaluated_on_folders_called_by_synsets(
    published, tmp_path, write_images
):
    names = {f"{synset}/{n}.png": 40 * n for synset in ("n01443537", "n02123045") for n in (1, 2)}
    data = write_images(tmp_path / "val", names)

    evaluation = evaluate(published, data)

    assert evaluation.labels.tolist() == [1, 1, 281, 281]
    predictor = Predictor.load(published)
    files = sorted(data.rglob("*.png"))
    labels = [best[0].label for best in predictor.predict(files, top=1)]
    expected = [imagenet.class_names()[place] for place in evaluation.probabilities.argmax(axis=1)]
    assert labels == expected


def test_a_published_checkpoint_does_not_know_other_folders(published, tmp_path, write_images):
    data = write_images(tmp_path / "val", {"tench/1.png": 40})
    with pytest.raises(DataError, match=r"tench\. The classes trained on are: n01440764, "):
        evaluate(published, data)


def test_a_model_alone_has_no_validation_images(trained):
    with pytest.raises(UserError, match="data"):
        evaluate(trained[0].last_model)


@pytest.mark.backend_free
def test_a_run_is_not_evaluated_on_classes_it_does_not_know(trained, tmp_path, write_images):
    write_images(tmp_path, {"3/1.png": 9, "x/1.png": 9})
    with pytest.raises(DataError, match="that the training images lack: x"):
        evaluate(trained[0].path, tmp_path)


@pytest.mark.backend_free
def test_bad_images_can_be_left_out_of_an_evaluation(trained, tmp_path, write_images):
    write_images(tmp_path, {"3/1.png": 9})
    (tmp_path / "3/2.png").write_text("no image")
    with pytest.raises(DataError, match="2.png"):
        evaluate(trained[0].path, tmp_path)
    assert len(evaluate(trained[0].path, tmp_path, on_bad_image="skip").labels) == 1


@pytest.mark.backend_free
def test_an_earlier_run_is_not_replaced_unasked(tiny_recipe, earlier, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where runs/ and the recipe's name lead to it
    with pytest.raises(RunError, match="There is a run in runs/digits already"):
        train(tiny_recipe())
    assert (earlier / "notes.txt").exists()


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("data={source: folder, path: nowhere, image_size: 16}", "There is no folder /.*/nowhere"),
        ("data.batch_size=1440", "1437 training images, fewer than one batch of 1440"),
    ],
)
def test_what_cannot_be_trained_leaves_nothing_behind(tiny_recipe, tmp_path, change, error):
    with pytest.raises(DataError, match=error):
        train(tiny_recipe(change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.backend_free
def test_what_cannot_be_trained_does_not_cost_the_earlier_run(tiny_recipe, earlier):
    with pytest.raises(DataError):
        train(tiny_recipe("data.batch_size=1440"), earlier, overwrite=True)
    assert (earlier / "notes.txt").exists()


@pytest.mark.backend_free
def test_a_recipe_may_be_given_by_its_file(tmp_path):
    with pytest.raises(UserError, match="There is no recipe"):
        train(tmp_path / "nowhere.yaml")


@pytest.fixture(scope="module")
def labelled():
    """A builder of TensorFlow Datasets for images and labels that lie in memory."""
    import tensorflow_datasets as tfds

    class Labelled(tfds.core.GeneratorBasedBuilder):
        """Under whatever name."""

        VERSION = tfds.core.Version("1.0.0")
        code_path = Path(__file__)  # or a package's resources are looked for

        def __init__(self, data_dir, images, labels, class_names):
            self.pairs, self.class_names = zip(images, labels, strict=True), class_names
            super().__init__(data_dir=data_dir)

        def _info(self):
            features = {
                "image": tfds.features.Image(encoding_format="png"),
                "label": tfds.features.ClassLabel(names=list(self.class_names)),
            }
            features = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, download_manager):
            return {"test": self._generate_examples()}

        def _generate_examples(self):
            for number, (image, label) in enumerate(self.pairs):
                yield number, {"image": image, "label": label}

    return Labelled


@pytest.fixture
def store(labelled, tmp_path, monkeypatch):
    """Prepares a data set where TensorFlow Datasets keeps its own."""
    place = str(tmp_path / "tfds")
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", place)

    def store(name, *contents):
        monkeypatch.setattr(labelled, "name", name)
        labelled(place, *contents).download_and_prepare()
        return f"tfds:{name}"

    return store


@pytest.fixture
def stored_digits(store):
    _, test = digits()
    return store("some_digits", test.images[:40], test.labels[:40], test.class_names)


def test_a_run_is_evaluated_on_a_set_of_tensorflow_datasets(trained, stored_digits):
    run, evaluation = trained
    found = evaluate(run.path, stored_digits, split="test")
    np.testing.assert_array_equal(found.labels, evaluation.labels[:40])
    np.testing.assert_allclose(found.probabilities, evaluation.probabilities[:40], atol=1e-5)


@pytest.mark.backend_free
def test_a_model_is_evaluated_on_a_set_of_as_many_classes(trained, store, stored_digits):
    model = trained[0].last_model
    assert evaluate(model, stored_digits, split="test[:25%]").summary()["images"] == 10
    few = store("few_digits", digits()[1].images[:4], [0, 1, 2, 0], "abc")
    with pytest.raises(DataError, match="10 classes apart, but tfds:few_digits holds 3"):
        evaluate(model, few, split="test")
    with pytest.raises(DataError, match="few_digits holds classes that .* lack: a, b, c"):
        evaluate(trained[0].path, few, split="test")


@pytest.mark.backend_free
def test_a_published_checkpoint_is_evaluated_on_a_set_labelled_by_synsets(published, store):
    images = np.random.default_rng(0).integers(0, 256, (3, 30, 40, 3), "uint8")
    names = ["n02123045", "n01443537"]
    evaluation = evaluate(published, store("synsets", images, [0, 1, 0], names), split="test")
    assert evaluation.labels.tolist() == [281, 1, 281]


@pytest.mark.backend_free
def test_a_set_is_evaluated_by_the_split_that_is_named(trained, stored_digits, held_out):
    with pytest.raises(DataError, match="no split None.* Its splits are test"):
        evaluate(trained[0].path, stored_digits)
    with pytest.raises(UserError, match="`split` goes with `data`"):
        evaluate(trained[0].path, split="test")
    with pytest.raises(UserError, match="'all'.* is for data sets of TensorFlow Datasets"):
        evaluate(trained[0].path, held_out, split="all")


class Listener(keras.callbacks.Callback):
    """A user's callback, which adds to the logs and remembers what it saw in them."""

    def __init__(self):
        super().__init__()
        self.epochs, self.names = [], set()

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(epoch)
        self.names |= set(logs)
        logs["of_each_class"] = np.array([0.25, epoch])


@pytest.fixture(scope="module")
def photos(tmp_path_factory, write_images):
    """A data set with three times as many training images of one class as of the other."""
    names = {f"train/{name}/{n}.png": 30 * n for name, k in (("a", 6), ("b", 2)) for n in range(k)}
    names |= {f"val/{name}/{n}.png": 99 + n for name in "ab" for n in range(2)}
    return write_images(tmp_path_factory.mktemp("photos") / "images", names)


@pytest.fixture(scope="module")
def step_recipe(tiny_recipe):
    """A recipe of small images, whose length changes nothing in its epochs."""

    def load(path, *overrides):
        settings = [f"data={{source: folder, path: {path}, image_size: 8, batch_size: 4}}"]
        settings += ["schedule.name=step", "schedule.epochs=3", "schedule.warmup_epochs=0"]
        settings += ["augment={policy: paper, rand_augment: null}", "export.saved_model=false"]
        return tiny_recipe(*settings, "data.class_weights=balanced", *overrides)

    return load


@pytest.fixture(scope="module")
def of_photos(photos, step_recipe, tmp_path_factory):
    """A finished run on the photos, named by a relative path, and its callback."""
    listener = Listener()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(photos.parent)
        path = tmp_path_factory.mktemp("of_photos") / "run"
        run, _ = train(step_recipe("images"), path, callbacks=[listener])
    return run, listener


@pytest.mark.tensorflow_first
def test_callbacks_of_the_users_run_beside_those_of_the_recipe(of_photos):
    run, listener = of_photos
    assert listener.epochs == [0, 1, 2]
    assert {"loss", "val_accuracy", "learning_rate", "val_ema_loss"} - listener.names == set()
    assert [row["of_each_class"] for row in run.metrics()] == [[0.25, n] for n in (0.0, 1.0, 2.0)]


@pytest.mark.slow
@pytest.mark.backend_free
def test_a_finished_run_is_given_more_epochs(of_photos, photos, step_recipe, tmp_path, capsys):
    listener = Listener()
    short = step_recipe(photos, "schedule.epochs=1")
    run, _ = train(short, tmp_path / "run", callbacks=[listener])
    assert "Class weights: from 0.667 (a) to 2 (b)" in capsys.readouterr().err
    (run.path / "model.onnx").touch()
    run, _ = train(step_recipe(photos), run.path, callbacks=[listener])
    notices = capsys.readouterr().err
    assert "after epoch 1 of 3" in notices and "not updated: " + str(run.path) in notices
    assert listener.epochs == [0, 1, 2]
    assert_the_same_but_for_seconds(run, of_photos[0])
    assert json.loads(run.results_file.read_text())["epochs"] == 3
    assert run.recipe().schedule.epochs == json.loads(run.plan_file.read_text())["epochs"] == 3
    with pytest.raises(RunError, match="is finished"):
        train(short, run.path)


@pytest.mark.backend_free
def test_a_run_of_a_cosine_is_given_no_more_epochs(trained, tiny_recipe):
    run, _ = trained
    with pytest.raises(RunError, match=r"finished after 2 epochs.*cosine.*schedule.epochs=7"):
        train(tiny_recipe("schedule.epochs=7"), run.path)
    for other in ("schedule.epochs=1", "runtime.seed=1"):
        with pytest.raises(RunError, match="it is finished"):
            train(tiny_recipe(other, "schedule.warmup_epochs=0"), run.path)
    assert run.is_finished()


@pytest.mark.slow
@pytest.mark.backend_free
def test_a_run_that_ends_early_ends_so_again_and_may_be_let_on(step_recipe, photos, tmp_path):
    stopping = "schedule.early_stopping={patience: 1, min_delta: 1, monitor: val_ema_loss}"
    settings = ("schedule.name=cosine", "optimizer.ema_decay=0.5")
    recipe = step_recipe(photos, *settings, stopping)
    run, _ = train(recipe, tmp_path / "run")
    assert [row["epoch"] for row in run.metrics()] == [1, 2]
    assert json.loads(run.results_file.read_text())["epochs"] == 2

    # Stopped while its report was made, and in its second epoch.
    run.results_file.unlink()
    before = run.metrics_file.read_text()
    train(recipe, run.path)
    assert run.metrics_file.read_text() == before and run.is_finished()
    stopped = stopped_after_its_first_epoch(run, tmp_path / "stopped")
    assert_the_same_but_for_seconds(train(recipe, stopped.path)[0], run)

    # The rest of the cosine is still to come.
    patient = step_recipe(photos, *settings)
    rows = train(patient, run.path)[0].metrics()
    assert len(rows) == 3 and rows[-1]["learning_rate"] == pytest.approx(1e-6, rel=1e-3)


@pytest.mark.slow
@pytest.mark.backend_free
def test_a_run_keeps_its_images_wherever_it_is_looked_at_from(
    of_photos, photos, step_recipe, write_images, tmp_path, monkeypatch
):
    run, _ = of_photos
    assert run.recipe().data.path == str(photos)
    write_images(tmp_path, {"images/train/a/1.png": 9, "images/val/a/1.png": 9})
    monkeypatch.chdir(tmp_path)
    assert len(evaluate(run.path).labels) == 4
    path = export(run.path, tmp_path / "model.onnx", "onnx", precision="int8")
    assert path.is_file()

    stopped = RunDirectory(shutil.copytree(run.path, tmp_path / "stopped"))
    stopped.results_file.unlink()
    there = f'data.path: "{photos}" in the run, "{tmp_path / "images"}" now'
    with pytest.raises(RunError, match=rf"{there}(.|\n)*were moved, change data.path in .*yaml"):
        train(step_recipe("images"), stopped.path)
    monkeypatch.chdir(photos.parent)
    train(step_recipe("images"), stopped.path)
    assert stopped.is_finished()


@pytest.mark.slow
@pytest.mark.backend_free
def test_other_images_in_the_place_of_a_runs_own_are_refused(of_photos, photos, tmp_path):
    run = RunDirectory(shutil.copytree(of_photos[0].path, tmp_path / "run"))
    copy = shutil.copytree(photos, tmp_path / "images")
    run.recipe_file.write_text(run.recipe_file.read_text().replace(str(photos), str(copy)))
    int8 = {"path": tmp_path / "model.onnx", "format": "onnx", "precision": "int8"}
    assert len(evaluate(run.path).labels) == 4

    for part in ("train", "val"):
        (copy / part / "a/1.png").unlink()
        (copy / part / "a/1.png").write_text("no image any more")
    for use in (evaluate, lambda source: export(source, **int8)):
        with pytest.raises(DataError, match=r"1 file of . cannot .*pass .* --on-bad-image skip to"):
            use(run.path)
    assert len(evaluate(run.path, on_bad_image="skip").labels) == 3
    assert export(run.path, **int8, on_bad_image="skip").is_file()

    for part in ("train", "val"):
        (copy / part / "a/1.png").unlink()
    with pytest.raises(DataError, match=r"validation images in (.|\n)* 4 images in the run, 3 now"):
        evaluate(run.path)
    with pytest.raises(
        DataError, match=r"training images in (.|\n)* 8 images .* 7 now(.|\n)*--data"
    ):
        export(run.path, tmp_path / "other.onnx", "onnx", precision="int8")
    assert len(evaluate(run.path, copy / "val").labels) == 3
    shutil.copytree(copy / "train/a", copy / "train/c")
    with pytest.raises(DataError, match=r"new: class c(.|\n)*pass `data` \(--data"):
        evaluate(run.path)
    assert not (tmp_path / "other.onnx").exists()


@pytest.mark.backend_free
def test_an_image_for_calibration_that_goes_bad_is_named(of_photos, photos, tmp_path):
    run = RunDirectory(shutil.copytree(of_photos[0].path, tmp_path / "run"))
    copy = shutil.copytree(photos, tmp_path / "images")
    text = run.recipe_file.read_text().replace(str(photos), str(copy))
    run.recipe_file.write_text(text.replace("check_images: true", "check_images: false"))
    (copy / "train/b/1.png").write_text("no image any more")
    with pytest.raises(DataError, match=r"images/train/b/1\.png cannot be read as an image"):
        export(run.path, tmp_path / "model.onnx", "onnx", precision="int8")
    assert not (tmp_path / "model.onnx").exists()


class StopAfterFirstEpoch(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


@pytest.mark.slow
@pytest.mark.backend_free
def test_a_run_that_a_callback_ended_stays_ended_when_it_resumes(step_recipe, photos, tmp_path):
    recipe = step_recipe(photos)
    run, _ = train(recipe, tmp_path / "run", callbacks=[StopAfterFirstEpoch()])
    assert [row["epoch"] for row in run.metrics()] == [1]
    assert run.stopped_after() == 1 and run.is_finished()
    run.results_file.unlink()  # killed while its report was made
    before = run.metrics_file.read_bytes()
    train(recipe, run.path)
    assert run.metrics_file.read_bytes() == before and run.is_finished()
    # Killed before the checkpoint of the epoch: it is trained again, and by itself to the end.
    run.results_file.unlink()
    (run.checkpoints / "epoch_0001.keras").unlink()
    run.last_model.unlink()
    train(recipe, run.path)
    assert [row["epoch"] for row in run.metrics()] == [1, 2, 3]
    assert run.stopped_after() is None


@pytest.mark.backend_free
@pytest.mark.parametrize("choice", ["maybe", ""])
def test_what_to_do_about_bad_images_must_be_known(trained, choice):
    for use in (evaluate, export):
        with pytest.raises(UserError, match=r"\(--on-bad-image\) must be one of error, skip"):
            use(trained[0].path, on_bad_image=choice)


@pytest.mark.backend_free
def test_all_missing_packages_are_named_before_anything_is_trained(
    tiny_recipe, tmp_path, monkeypatch
):
    real = importlib.util.find_spec
    missing = {"matplotlib", "sklearn", "keras_cv", "tensorflow_datasets"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in missing else real(name)
    )
    with pytest.raises(MissingPackage) as raised:
        train(tiny_recipe("augment={policy: keras_cv}"), tmp_path / "run")
    assert str(raised.value) == (
        "matplotlib, which draws the report, and KerasCV, which augments the images, and "
        "scikit-learn, which holds the digits, are not installed: "
        "pip install 'keras-convnext[train]'."
    )
    tfds = "data={source: tfds, dataset: mnist, image_size: 16}"
    with pytest.raises(MissingPackage, match="TensorFlow Datasets, which reads the data, are not"):
        train(tiny_recipe(tfds, "augment={policy: none}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.backend_free
@pytest.mark.parametrize("callbacks", [[print], keras.callbacks.TerminateOnNaN()])
def test_callbacks_must_be_a_list_of_kerass(tiny_recipe, tmp_path, callbacks):
    with pytest.raises(UserError, match="must be a list of objects of keras.callbacks.Callback"):
        train(tiny_recipe(), tmp_path / "run", callbacks=callbacks)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def photographs(tmp_path, write_images):
    """A folder of two classes, dark and light, for a recipe of seconds."""
    values = {"train/dark": 20, "train/light": 220, "val/dark": 30, "val/light": 210}
    names = {f"{part}/{n}.png": value + n for part, value in values.items() for n in range(4)}
    return write_images(tmp_path / "photographs", names)


def folder_recipe(tiny_recipe, folder, *overrides):
    settings = ("data.batch_size=4", "augment={policy: none}", "export.saved_model=false")
    settings += ("data.source=folder", f"data.path={folder}")
    return tiny_recipe(*settings, *overrides)


@pytest.mark.slow
@pytest.mark.backend_free
def test_an_image_that_goes_bad_while_training_is_named_and_nothing_is_lost(
    tiny_recipe, photographs, tmp_path, monkeypatch
):
    recipe = folder_recipe(tiny_recipe, photographs)
    image = photographs / "val/light/2.png"  # read anew in every epoch, and not ahead
    whole = image.read_bytes()
    write = Checkpoints.write

    def write_and_harm(self, model, epoch):
        write(self, model, epoch)
        if epoch == 1:
            image.unlink()

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "write", write_and_harm)
        with pytest.raises(DataError) as caught:
            train(recipe, tmp_path / "run")
    message = str(caught.value)
    assert f"{image} cannot be read as an image: " in message
    assert "Put a whole image in its place. Started again with the same command" in message
    assert "\n" not in message and "{{" not in message
    image.write_bytes(whole)
    run, evaluation = train(recipe, tmp_path / "run")
    assert [row["epoch"] for row in run.metrics()] == [1, 2]
    assert len(evaluation.labels) == 8


def test_images_that_are_never_checked_are_named_all_the_same(tiny_recipe, photographs, tmp_path):
    bad = photographs / "train/dark/0.png"
    bad.write_text("no image")
    with pytest.raises(DataError, match=f"{bad} cannot be read as an image: Unknown image file"):
        train(folder_recipe(tiny_recipe, photographs, "data.check_images=false"), tmp_path / "run")


def test_an_error_that_no_image_causes_passes(photographs):
    split = image_folder(photographs / "train")
    split.example(tf.constant(0))
    error = tf.errors.InvalidArgumentError(None, None, "of the network")
    with pytest.raises(type(error), match="of the network"), as_data_error(split):
        raise error


def test_a_published_checkpoint_is_evaluated_on_images_as_they_are_stored(
    published, tmp_path, write_images, monkeypatch
):
    write_images(tmp_path, {"n01440764/1.png": 0})
    switches = []
    load = source.load_split
    monkeypatch.setattr(
        source,
        "load_split",
        lambda *a, **k: switches.append(k["apply_orientation"]) or load(*a, **k),
    )
    evaluate(published, tmp_path)
    assert switches == [False]
