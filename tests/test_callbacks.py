import io
import json
from typing import ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from keras_convnext import callbacks
from keras_convnext.callbacks import (
    EMAEvaluation,
    LearningRateLog,
    MetricsLog,
    ProgressBar,
    StopWhenNotFinite,
)
from keras_convnext.optimizers import AdamW
from keras_convnext.schedules import WarmupCosine

EPOCHS, STEPS, BATCH = 2, 3, 4


def fit(*used, inputs=None, rate=0.1):
    """Trains the smallest of models for two epochs of three updates."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), loss="mse")
    inputs = np.ones((STEPS * BATCH, 1), "float32") if inputs is None else inputs
    targets = np.zeros((STEPS * BATCH, 1), "float32")
    return model.fit(inputs, targets, BATCH, EPOCHS, verbose=0, shuffle=False, callbacks=list(used))


def nan_at(update):
    """Inputs of which the batch of one update, counted from 1, is not a number."""
    inputs = np.ones((STEPS * BATCH, 1), "float32")
    inputs[(update - 1) * BATCH : update * BATCH] = np.nan
    return inputs


def test_every_epoch_is_one_line_of_json(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("an earlier run\n")
    history = fit(LearningRateLog(), MetricsLog(path)).history
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [row["loss"] for row in rows] == history["loss"]
    assert set(rows[0]) == {"epoch", "seconds", "loss", "learning_rate"}
    assert 0 <= rows[0]["seconds"] <= rows[1]["seconds"]


class AddToLogs(keras.callbacks.Callback):
    """Logs of an epoch with metrics that are not a single number."""

    VALUES: ClassVar = {
        "f1": keras.ops.convert_to_tensor([0.25, 0.5, 1.0]),
        "confusion": np.arange(6, dtype="int64").reshape(2, 3),
        "tensor": keras.ops.convert_to_tensor(0.5, "bfloat16"),
        "one": [np.float32(0.125)],
        "words": "learned [a] little",
        "encoded": b"\xc3\xa4",
        "nothing": None,
        "yes": True,
        "names": np.array(["a", "b"]),
        "ragged": [[1.0], [2.0, 3.0]],
        "object": {"a": 1},
    }

    def on_epoch_end(self, epoch, logs=None):
        logs.update(self.VALUES)


def test_metrics_may_be_of_any_kind(tmp_path, capsys):
    path = tmp_path / "metrics.jsonl"
    fit(AddToLogs(), MetricsLog(path), ProgressBar(EPOCHS, STEPS, BATCH))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == EPOCHS
    assert {name: rows[1][name] for name in AddToLogs.VALUES} == {
        "f1": [0.25, 0.5, 1.0],
        "confusion": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]],
        "tensor": 0.5,
        "one": [0.125],
        "words": "learned [a] little",
        "encoded": "ä",
        "nothing": None,
        "yes": 1.0,
        "names": ["a", "b"],
        "ragged": "[[1.0], [2.0, 3.0]]",
        "object": "{'a': 1}",
    }
    shown = capsys.readouterr().err.splitlines()[-1]
    assert (
        "f1 [0.25 0.5 1]  confusion [0 1 2 3 ...]  tensor 0.5  one [0.125]  words learned" in shown
    )


def test_a_metric_of_a_number_for_every_class_is_logged(tmp_path, capsys):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, activation="softmax")])
    metrics = [keras.metrics.F1Score(average=None, name="f1")]
    model.compile(AdamW(0.1, use_ema=True), "categorical_crossentropy", metrics=metrics)
    inputs, labels = np.eye(3, 2, dtype="float32"), np.eye(3, dtype="float32")
    validation = data_batches((inputs, labels))
    used = [EMAEvaluation(validation), MetricsLog(tmp_path / "log"), ProgressBar(1, 1, 3)]
    model.fit(inputs, labels, verbose=0, validation_data=validation, callbacks=used)
    row = json.loads((tmp_path / "log").read_text())
    assert [len(row[f"{part}f1"]) for part in ("", "val_", "val_ema_")] == [3, 3, 3]
    assert "val_ema_f1 [" in capsys.readouterr().err


def test_a_training_step_without_a_loss_is_refused():
    stop = StopWhenNotFinite()
    stop.set_model(type("Model", (), {"optimizer": keras.optimizers.SGD()}))
    stop.on_train_begin()
    with pytest.raises(ValueError, match=r"'loss', which .* It returns: accuracy, error\."):
        stop.on_train_batch_end(0, {"accuracy": 0.5, "error": 1.0})


def test_the_metrics_of_a_resumed_run_are_appended(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 7, "seconds": 100.5}\n')
    fit(MetricsLog(path, append=True))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [7, 1, 2]
    assert 100.5 <= rows[1]["seconds"] <= rows[2]["seconds"]


def test_the_learning_rate_of_a_schedule_is_logged(tmp_path):
    fit(LearningRateLog(), MetricsLog(tmp_path / "log"), rate=WarmupCosine(0.1, 6, 3, final=0.01))
    rows = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    # After three updates the cosine begins, at the peak; after six it has ended.
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.1, 0.01])


def test_a_constant_learning_rate_is_logged():
    assert fit(LearningRateLog(), rate=0.25).history["learning_rate"] == [0.25, 0.25]


@pytest.mark.parametrize("update", [1, 3])
def test_training_stops_at_the_update_whose_loss_is_nan(update):
    with pytest.raises(FloatingPointError, match=f"The loss became nan at update {update}\\."):
        fit(StopWhenNotFinite(), inputs=nan_at(update))


def test_an_update_of_several_steps_is_counted_as_one():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2), loss="mse")
    images, targets = np.ones((8, 1), "float32"), np.zeros((8, 1), "float32")
    model.fit(images, targets, 2, verbose=0)  # two updates; two more follow
    images[4:] = np.nan  # from the third of four steps on
    with pytest.raises(FloatingPointError, match=r"nan at update 4\."):
        model.fit(images, targets, 2, verbose=0, shuffle=False, callbacks=[StopWhenNotFinite()])


def test_training_stops_when_the_loss_is_infinite():
    with pytest.raises(FloatingPointError, match=r"The loss became inf at update 1\."):
        fit(StopWhenNotFinite(), inputs=np.full((STEPS * BATCH, 1), 1e30, "float32"))


def test_a_finite_loss_stops_nothing():
    assert len(fit(StopWhenNotFinite()).epoch) == EPOCHS


def test_progress_is_one_line_per_epoch_without_a_terminal(capsys):
    fit(ProgressBar(EPOCHS, STEPS, BATCH))
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert len(lines) == EPOCHS and out == ""
    assert lines[0].startswith("epoch 1/2  loss ") and lines[1].startswith("epoch 2/2  loss ")


@pytest.fixture
def terminal(monkeypatch):
    text = io.StringIO()
    terminal = Console(
        file=text,
        force_terminal=True,
        width=200,
        color_system=None,
        markup=False,
        emoji=False,
    )
    monkeypatch.setattr(callbacks, "console", terminal)
    return text


def test_progress_is_a_bar_on_a_terminal(terminal):
    fit(ProgressBar(EPOCHS, STEPS, BATCH))
    shown = terminal.getvalue()
    assert "epoch 2/2" in shown and "6/6" in shown and "images/s" in shown and "loss" in shown
    assert shown.endswith("\x1b[?25h")  # the cursor is shown again


def test_the_names_of_metrics_are_shown_as_they_are(terminal):
    bar = ProgressBar(1, STEPS, BATCH)
    bar.on_train_begin()
    bar.on_epoch_begin(0)
    bar.on_epoch_end(0, {"[red]f1[/x] :dog:": 0.25})
    bar.close()
    assert "[red]f1[/x] :dog: 0.25" in terminal.getvalue()


def test_the_bar_of_a_resumed_run_starts_where_it_was(terminal):
    bar = ProgressBar(4, STEPS, BATCH, initial_epoch=3)
    bar.on_train_begin()
    (task,) = bar._progress.tasks
    assert (task.completed, task.total, task.fields["epoch"]) == (9, 12, 4)
    bar.on_epoch_begin(3)
    for step in range(3):
        bar.on_train_batch_end(step, {"loss": 0.125})
    bar.close()
    assert task.completed == 12
    # What the speed and the time left follow from: this session's steps only.
    assert [sample.completed for sample in task._progress] == [1, 1, 1]
    shown = terminal.getvalue()
    assert "epoch 4/4" in shown and "12/12" in shown and "loss 0.125" in shown


def test_a_bar_that_never_started_can_be_closed():
    ProgressBar(EPOCHS, STEPS, BATCH).close()


def test_the_terminal_is_released_when_training_fails(terminal):
    bar = ProgressBar(EPOCHS, STEPS, BATCH)
    with pytest.raises(FloatingPointError):
        fit(StopWhenNotFinite(), bar, inputs=nan_at(2))
    bar.close()
    assert terminal.getvalue().endswith("\x1b[?25h")


class TestEMAEvaluation:
    """A linear model, whose EMA is computed from the weights after every update."""

    DECAY = 0.75

    def compiled(self, **arguments):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, activation="softmax")])
        arguments = {"use_ema": True, "ema_momentum": self.DECAY, **arguments}
        model.compile(
            AdamW(0.1, **arguments), "sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        return model

    @pytest.fixture
    def data(self):
        random = np.random.default_rng(0)
        return random.normal(size=(12, 2)).astype("float32"), np.arange(12) % 3

    @pytest.mark.parametrize("batch_size", [4, 12])  # three updates an epoch, and a single one
    def test_the_ema_is_evaluated_and_the_weights_are_trained(self, data, batch_size):
        averaged, plain = self.compiled(), self.compiled(use_ema=False)
        plain.set_weights(averaged.get_weights())
        average = [weight.copy() for weight in plain.get_weights()]
        fitted = {"batch_size": batch_size, "shuffle": False, "verbose": 0}
        for _ in range(2):  # as if training were resumed
            logs = averaged.fit(
                *data, epochs=2, callbacks=[EMAEvaluation(data_batches(data))], **fitted
            ).history
            for epoch in range(2):
                for start in range(0, 12, batch_size):
                    plain.train_on_batch(*(part[start : start + batch_size] for part in data))
                    average = [
                        self.DECAY * old + (1 - self.DECAY) * new
                        for old, new in zip(average, plain.get_weights(), strict=True)
                    ]
                reference = keras.models.clone_model(plain)
                reference.compile(loss=plain.loss, metrics=["accuracy"])
                reference.set_weights(average)
                loss, accuracy = reference.evaluate(*data, verbose=0)
                assert logs["val_ema_loss"][epoch] == pytest.approx(loss, rel=1e-4)
                assert logs["val_ema_accuracy"][epoch] == pytest.approx(accuracy)
        for ours, theirs in zip(averaged.get_weights(), plain.get_weights(), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)

    def test_the_best_ema_is_saved(self, data, tmp_path):
        model = self.compiled()
        callback = EMAEvaluation(data_batches(data), tmp_path / "best_ema.keras")

        logs = model.fit(*data, epochs=4, verbose=0, callbacks=[callback]).history

        best = keras.saving.load_model(tmp_path / "best_ema.keras")
        _, accuracy = best.evaluate(*data, verbose=0)
        assert accuracy == pytest.approx(max(logs["val_ema_accuracy"]))

    def compiled_without_accuracy(self, **arguments):
        model = self.compiled(**arguments)
        metrics = [keras.metrics.F1Score(average=None, name="f1"), keras.metrics.MeanSquaredError()]
        model.compile(model.optimizer, "categorical_crossentropy", metrics=metrics)
        return model

    @pytest.mark.parametrize(
        ("monitor", "mode"),
        [("val_ema_mean_squared_error", "auto"), ("val_ema_loss", "auto"), ("val_ema_loss", "max")],
    )
    def test_any_metric_can_decide_which_is_best(self, data, tmp_path, monitor, mode):
        inputs, labels = data[0], np.eye(3, dtype="float32")[data[1]]
        model, path = self.compiled_without_accuracy(), tmp_path / "best.keras"
        validation = data_batches((inputs, labels))
        callback = EMAEvaluation(validation, path, monitor, mode)
        logs = model.fit(inputs, labels, epochs=3, verbose=0, callbacks=[callback]).history
        results = keras.saving.load_model(path).evaluate(validation, return_dict=True, verbose=0)
        best = (max if mode == "max" else min)(logs[monitor])
        assert results[monitor.removeprefix("val_ema_")] == pytest.approx(best, rel=1e-5)
        assert len(set(logs[monitor])) == 3  # so that it could have been another

    @pytest.mark.parametrize(
        ("monitor", "sentence"),
        [
            ("val_ema_accuracy", r"evaluated with, .*: val_ema_f1, val_ema_loss, .*'val_ema_acc"),
            ("val_loss", r"evaluated with, .*Received: 'val_loss'\."),
            ("val_ema_f1", r"must be a metric with a single number, .* Received: 'val_ema_f1'"),
        ],
    )
    def test_a_metric_that_cannot_decide_is_refused_at_the_start(
        self, data, tmp_path, monitor, sentence
    ):
        inputs, labels = data[0], np.eye(3, dtype="float32")[data[1]]
        model = self.compiled_without_accuracy()
        before = [weight.copy() for weight in model.get_weights()]
        validation = data_batches((inputs, labels))
        callback = EMAEvaluation(validation, tmp_path / "best.keras", monitor)
        with pytest.raises(ValueError, match=sentence):
            model.fit(inputs, labels, verbose=0, callbacks=[callback])
        for old, new in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
        # Without a file there is no best state to decide.
        model.fit(inputs, labels, verbose=0, callbacks=[EMAEvaluation(validation, None, monitor)])

    @pytest.mark.backend_free
    def test_whether_greater_is_better_must_be_known(self, data):
        with pytest.raises(ValueError, match=r"'val_ema_kappa' does not say .* Pass `mode`"):
            EMAEvaluation(data, "best.keras", "val_ema_kappa")
        with pytest.raises(ValueError, match=r"`mode` must be 'auto', .* Received: 'greatest'"):
            EMAEvaluation(data, "best.keras", mode="greatest")
        assert EMAEvaluation(data, "best.keras", "val_ema_kappa", "max").sign == 1

    def test_it_works_with_a_scaled_loss(self, data):
        model = self.compiled()
        model.compile(
            keras.optimizers.LossScaleOptimizer(model.optimizer), model.loss, metrics=["accuracy"]
        )
        callback = EMAEvaluation(data_batches(data))
        logs = model.fit(*data, epochs=2, verbose=0, callbacks=[callback]).history
        assert np.isfinite(logs["val_ema_loss"]).all()

    def test_an_update_that_overflows_changes_nothing(self, data):
        model = self.compiled()
        optimizer = keras.optimizers.LossScaleOptimizer(model.optimizer, initial_scale=3e38)
        model.compile(optimizer, model.loss, metrics=["accuracy"])
        optimizer.build(model.trainable_variables)
        kept = [*model.trainable_variables, optimizer.iterations]
        kept += [average for average, _ in model.optimizer.inner_optimizer.ema_pairs(kept[:2])]
        kept += [optimizer.inner_optimizer.iterations]
        before = [keras.ops.convert_to_numpy(keras.ops.copy(v)) for v in kept]
        model.train_on_batch(10 * data[0], data[1])
        for old, new in zip(before, kept, strict=True):
            np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(new))
        assert float(keras.ops.convert_to_numpy(optimizer.dynamic_scale)) < 3e38

    def test_an_optimizer_without_an_ema_is_refused(self, data):
        with pytest.raises(ValueError, match=r"needs an optimizer that keeps an EMA.*use_ema=True"):
            self.compiled(use_ema=False).fit(*data, verbose=0, callbacks=[EMAEvaluation(data)])


def data_batches(data):
    return tf.data.Dataset.from_tensor_slices(data).batch(6)
