"""A run is killed at each of its file operations in turn, and resumed.

Killing a process and starting another is tested, with whole recipes, in test_killed_runs.py; here
the operations fail as in a killed process, so that all of them can be tried.
"""

import dataclasses
import os
import resource
import shutil

import keras
import numpy as np
import pytest
from file_operations import killed_at, listening
from model_files import tensors
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from keras_convnext.errors import RunError
from keras_convnext.layers import StochasticDepth
from keras_convnext.runs.directory import RunDirectory
from keras_convnext.runs.plan import make_plan
from keras_convnext.tasks.classification.task import CLASSIFICATION
from keras_convnext.training import trainer

EPOCHS, STEPS, CLASSES = 4, 2, 3
# Of every epoch, of the weights and of their average: each is the best at another time.
ACCURACIES = [0.1, 0.3, 0.5, 0.2]
EMA_ACCURACIES = [0.2, 0.4, 0.3, 0.6]


class SteppedModel(keras.Sequential):
    """A model that is trained step by step, so that it is compiled once for all tests."""

    def fit(self, training, epochs, initial_epoch, steps_per_epoch, callbacks, **_):
        callbacks = keras.callbacks.CallbackList(callbacks, model=self)
        callbacks.on_train_begin()
        for epoch in range(initial_epoch, epochs):
            callbacks.on_epoch_begin(epoch)
            self.epoch = epoch
            for step in range(steps_per_epoch):
                logs = self.train_on_batch(*training[epoch][step], return_dict=True)
                callbacks.on_train_batch_end(step, logs)
            logs = {**logs, "val_accuracy": ACCURACIES[epoch], "val_loss": 1.0}
            callbacks.on_epoch_end(epoch, logs)
        callbacks.on_train_end()

    def evaluate(self, *_, **__):
        return {"accuracy": EMA_ACCURACIES[self.epoch], "loss": 1.0}


@pytest.fixture(scope="module")
def training():
    random = np.random.default_rng(0)
    images = random.normal(size=(EPOCHS, STEPS, 8, 4)).astype("float32")
    labels = np.eye(CLASSES, dtype="float32")[random.integers(0, CLASSES, (EPOCHS, STEPS, 8))]
    return [list(zip(*epoch, strict=True)) for epoch in zip(images, labels, strict=True)]


@pytest.fixture(scope="module")
def settings(tiny_recipe):
    return tiny_recipe(
        f"schedule.epochs={EPOCHS}",
        "data.batch_size=8",
        "optimizer.ema_decay=0.9",
        "checkpoint.keep=2",
    )


@pytest.fixture(scope="module")
def process(settings, training):
    """What a process does that is started for a run's directory: resumes, and trains to the end."""
    keras.utils.set_random_seed(0)
    layers = [keras.Input((4,)), keras.layers.Dense(6), StochasticDepth(0.5)]
    model = SteppedModel([*layers, keras.layers.Dense(CLASSES)])
    plan = make_plan(settings, 8 * STEPS, 4, CLASSES)
    CLASSIFICATION.compile_model(model, settings, plan)
    model.optimizer.build(model.trainable_variables)
    model.train_on_batch(*training[0][0])
    variables = [*model.variables, *model.optimizer.variables]
    fresh = [keras.ops.convert_to_numpy(keras.ops.copy(v)) for v in variables]
    patch = pytest.MonkeyPatch()
    patch.setattr(trainer, "_build_metrics", lambda *_: None)

    def start(path, kill_at=None, epochs=EPOCHS, around=None):
        for variable, value in zip(variables, fresh, strict=True):
            variable.assign(value)
        run = RunDirectory(path)
        length = dataclasses.replace(plan, epochs=epochs)
        with around or killed_at(kill_at, path) as operations:
            done = trainer.restore(model, settings, run)
            batches, images = (lambda *_: training), (lambda *_: object())
            trainer.fit(model, batches, images, settings, length, run, done)
        return operations

    yield start
    patch.undo()


@pytest.fixture(scope="module")
def half_done(process, settings, tmp_path_factory):
    """A run that was stopped after two of its four epochs."""
    run = RunDirectory(tmp_path_factory.mktemp("half") / "run")
    run.create(settings)
    process(run.path, epochs=2)
    return run.path


@pytest.fixture(scope="module")
def unbroken(process, settings, tmp_path_factory):
    """What a run leaves that was never stopped."""
    run = RunDirectory(tmp_path_factory.mktemp("unbroken") / "run")
    run.create(settings)
    process(run.path)
    return left_by(run)


def content(model_file):
    return {name: tensor.tobytes() for name, tensor in tensors(model_file).items()}


def events(run):
    (path,) = run.events.iterdir()
    loaded = list(EventFileLoader(str(path)).Load())
    return [
        (event.step, value.tag, value.tensor.float_val[0])
        for event in loaded
        for value in event.summary.value
    ]


def left_by(run):
    """Returns all that a run leaves, but for times."""
    models = [run.last_model, run.best_model, run.best_ema_model, *run.checkpoints.iterdir()]
    return {
        "files": sorted(str(path.relative_to(run.path)) for path in run.path.rglob("*.keras")),
        "models": {path.name: content(path) for path in models},
        "metrics": [{k: v for k, v in row.items() if k != "seconds"} for row in run.metrics()],
        "events": events(run),
        "partial": list(run.path.rglob(".partial*")),
    }


def test_what_an_unbroken_run_leaves_is_what_its_metrics_say(unbroken):
    models = unbroken["models"]
    assert set(models) == {
        "last.keras",
        "best.keras",
        "best_ema.keras",
        "epoch_0003.keras",
        "epoch_0004.keras",
    }
    assert models["last.keras"] == models["epoch_0004.keras"] != models["epoch_0003.keras"]
    assert models["best.keras"] == models["epoch_0003.keras"]
    # The average of the last epoch: with the optimizer of that epoch, and other weights.
    for name, tensor in models["best_ema.keras"].items():
        if name.startswith("optimizer"):
            assert tensor == models["last.keras"][name]
    assert models["best_ema.keras"] != models["last.keras"]
    assert [(step, tag) for step, tag, _ in unbroken["events"] if tag == "loss"] == [
        (epoch, "loss") for epoch in (1, 2, 3, 4)
    ]
    assert unbroken["partial"] == []


def test_a_run_resumes_exactly(half_done, process, unbroken, tmp_path):
    path = shutil.copytree(half_done, tmp_path / "run")
    process(path)
    assert left_by(RunDirectory(path)) == unbroken


def test_a_run_killed_at_any_file_operation_resumes_exactly(half_done, process, unbroken, tmp_path):
    operations = process(shutil.copytree(half_done, tmp_path / "all"))
    kinds = {event for event, _ in operations}
    assert kinds == {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir"}
    assert len(operations) > 50
    for number, operation in enumerate(operations):
        run = RunDirectory(shutil.copytree(half_done, tmp_path / str(number)))
        process(run.path, kill_at=number)
        # As if it had been killed while it wrote a line, too.
        with run.metrics_file.open("a") as file:
            file.write('{"epoch": 9, "lo')
        for path in run.events.glob("events*"):
            with path.open("ab") as file:
                file.write(b"\x10\x00\x00")
        process(run.path)
        left = left_by(run)
        for what, expected in unbroken.items():
            assert left[what] == expected, f"{what} after a kill at {operation}"
        shutil.rmtree(run.path)


@pytest.mark.parametrize(
    "damage", ["truncated", "a bit of its weights", "a bit of its description", "empty", "no zip"]
)
def test_a_damaged_checkpoint_is_said_and_the_one_before_taken(
    half_done, process, unbroken, tmp_path, capsys, damage
):
    run = RunDirectory(tmp_path / "run")
    shutil.copytree(half_done, run.path)
    newest = run.checkpoints / "epoch_0002.keras"
    whole = bytearray(newest.read_bytes())
    if damage == "a bit of its weights":
        whole[len(whole) // 2] ^= 1
    if damage == "a bit of its description":  # with which alone the last state could be loaded
        whole[whole.index(b"class_name")] ^= 1
    cut = {"truncated": len(whole) // 2, "empty": 0, "no zip": 30}.get(damage, len(whole))
    newest.write_bytes(whole[:cut])  # the last and the best state, too: they are the same file

    process(run.path)

    assert "epoch_0002.keras cannot be used as a checkpoint" in capsys.readouterr().err.replace(
        "\n", ""
    )
    assert left_by(run) == unbroken


def test_a_best_state_goes_with_the_damaged_checkpoint_of_its_epoch(half_done, process, tmp_path):
    run = RunDirectory(shutil.copytree(half_done, tmp_path / "run"))
    process(run.path)
    (run.checkpoints / "epoch_0004.keras").write_text("")  # of the best average
    process(run.path, epochs=3)  # nothing is left to train
    third = content(run.checkpoints / "epoch_0003.keras")
    assert content(run.last_model) == content(run.best_model) == third
    # That of the second epoch, the best of those that stay, is gone; the next best is at hand.
    of_average = content(run.best_ema_model)
    assert of_average != third
    assert {k: v for k, v in of_average.items() if "optimizer" in k} == {
        k: v for k, v in third.items() if "optimizer" in k
    }


def test_a_run_with_no_whole_checkpoint_is_refused(half_done, process, tmp_path):
    run = RunDirectory(shutil.copytree(half_done, tmp_path / "run"))
    for path in run.checkpoints.iterdir():
        path.write_text("")
    with pytest.raises(RunError, match=r"Nor can any earlier one .* --overwrite"):
        process(run.path)


def test_a_run_whose_checkpoints_were_removed_is_refused(half_done, process, tmp_path):
    run = RunDirectory(shutil.copytree(half_done, tmp_path / "run"))
    before = run.metrics_file.read_bytes()
    shutil.rmtree(run.checkpoints)
    with pytest.raises(RunError, match=r"has no checkpoints: an earlier version .* --overwrite"):
        process(run.path)
    assert run.metrics_file.read_bytes() == before


@pytest.fixture
def full_disk():
    """Lets a file grow no further once it is opened, in the fourth epoch, for all who write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(part_of_path, epoch_is_there):
        def listener(event, path):
            if event == "open" and part_of_path in path and epoch_is_there():
                size = os.path.getsize(path) if os.path.exists(path) else 0
                resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))

        return listening(listener)

    yield fill
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("part_of_path", "named", "safe"),
    [
        ("metrics.jsonl", "metrics.jsonl", 3),
        ("tensorboard", "tensorboard/events.out.tfevents.", 3),
        ("checkpoints/.partial", "checkpoints/epoch_0004.keras", 3),
        ("run/.partial", "best_ema.keras", 4),
    ],
)
def test_a_full_disk_is_said_and_costs_nothing(
    half_done, process, unbroken, tmp_path, full_disk, part_of_path, named, safe
):
    run = RunDirectory(shutil.copytree(half_done, tmp_path / "run"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    third = run.checkpoints / "epoch_0003.keras"
    full = full_disk(part_of_path, lambda: third.exists() and len(run.metrics()) >= 3)
    with pytest.raises(RunError) as raised:
        process(run.path, around=full)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    message = str(raised.value)
    assert named in message and "cannot be written: File too large." in message
    assert f"The checkpoint of epoch {safe} is complete." in message
    assert "start again with the same command" in message
    assert not list(run.path.rglob(".partial*"))
    process(run.path)
    assert left_by(run) == unbroken
