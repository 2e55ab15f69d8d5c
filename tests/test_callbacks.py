import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from keras_convnext import callbacks
from keras_convnext.callbacks import (
    AverageEvaluation,
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


def test_the_metrics_of_a_run_that_is_gone_on_with_are_added(tmp_path):
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
def test_training_stops_at_the_update_whose_loss_is_not_a_number(update):
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


def test_progress_is_one_line_an_epoch_where_there_is_no_terminal(capsys):
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


def test_the_bar_of_a_run_that_is_gone_on_with_begins_where_it_was(terminal):
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


def test_a_bar_that_never_began_can_be_closed():
    ProgressBar(EPOCHS, STEPS, BATCH).close()


def test_the_terminal_is_given_back_when_training_fails(terminal):
    bar = ProgressBar(EPOCHS, STEPS, BATCH)
    with pytest.raises(FloatingPointError):
        fit(StopWhenNotFinite(), bar, inputs=nan_at(2))
    bar.close()
    assert terminal.getvalue().endswith("\x1b[?25h")


class TestAverageEvaluation:
    """A linear model: its average is worked out from the weights after every update."""

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
    def test_the_average_is_evaluated_and_the_weights_are_trained(self, data, batch_size):
        averaged, plain = self.compiled(), self.compiled(use_ema=False)
        plain.set_weights(averaged.get_weights())
        average = [weight.copy() for weight in plain.get_weights()]
        fitted = {"batch_size": batch_size, "shuffle": False, "verbose": 0}
        for _ in range(2):  # as if training were taken up again
            logs = averaged.fit(
                *data, epochs=2, callbacks=[AverageEvaluation(data_batches(data))], **fitted
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

    def test_the_best_average_is_kept(self, data, tmp_path):
        model = self.compiled()
        callback = AverageEvaluation(data_batches(data), tmp_path / "best_ema.keras")

        logs = model.fit(*data, epochs=4, verbose=0, callbacks=[callback]).history

        best = keras.saving.load_model(tmp_path / "best_ema.keras")
        _, accuracy = best.evaluate(*data, verbose=0)
        assert accuracy == pytest.approx(max(logs["val_ema_accuracy"]))

    def test_it_works_with_a_scaled_loss(self, data):
        model = self.compiled()
        model.compile(
            keras.optimizers.LossScaleOptimizer(model.optimizer), model.loss, metrics=["accuracy"]
        )
        callback = AverageEvaluation(data_batches(data))
        logs = model.fit(*data, epochs=2, verbose=0, callbacks=[callback]).history
        assert np.isfinite(logs["val_ema_loss"]).all()

    def test_an_update_that_overflows_moves_nothing(self, data):
        model = self.compiled()
        optimizer = keras.optimizers.LossScaleOptimizer(model.optimizer, initial_scale=3e38)
        model.compile(optimizer, model.loss, metrics=["accuracy"])
        optimizer.build(model.trainable_variables)
        kept = [*model.trainable_variables, optimizer.iterations]
        kept += [average for average, _ in model.optimizer.inner_optimizer.averages(kept[:2])]
        kept += [optimizer.inner_optimizer.iterations]
        before = [keras.ops.convert_to_numpy(keras.ops.copy(v)) for v in kept]
        model.train_on_batch(10 * data[0], data[1])
        for old, new in zip(before, kept, strict=True):
            np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(new))
        assert float(keras.ops.convert_to_numpy(optimizer.dynamic_scale)) < 3e38

    def test_an_optimizer_without_an_average_is_refused(self, data):
        with pytest.raises(ValueError, match=r"needs an optimizer that keeps .*use_ema=True"):
            self.compiled(use_ema=False).fit(*data, verbose=0, callbacks=[AverageEvaluation(data)])


def data_batches(data):
    return tf.data.Dataset.from_tensor_slices(data).batch(6)
