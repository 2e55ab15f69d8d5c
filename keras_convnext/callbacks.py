"""What is seen and kept of a running `model.fit`. Each callback can be used alone."""

import contextlib
import json
import math
import time
from pathlib import Path
from typing import Any

import keras
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from keras_convnext import files
from keras_convnext.console import console
from keras_convnext.metric_values import greater_is_better, plain, short


class LearningRateLog(keras.callbacks.Callback):
    """Adds the learning rate to every epoch's logs, which Keras leaves out for a schedule.

    Place it before the callbacks that read the logs.
    """

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["learning_rate"] = float(
                keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
            )


class MetricsLog(keras.callbacks.Callback):
    """Writes every epoch's metrics as one line of JSON, the epoch counted from 1.

    A line is on the disk when the epoch has ended, whole or not at all. A metric of several
    numbers, such as `keras.metrics.F1Score()`, becomes a list; text stays text.

    Args:
        path: File to write.
        append: Whether what it holds stays, and its seconds are counted on, when a run is gone on
            with. Defaults to `False`: it is replaced when training begins.

    Raises:
        OSError: If it cannot be written.

    Example:
        >>> model.fit(images, labels, callbacks=[keras_convnext.callbacks.MetricsLog("log.jsonl")])
    """

    def __init__(self, path: str | Path, append: bool = False) -> None:
        super().__init__()
        self.path = files.expanded(path)
        self.append = append

    def on_train_begin(self, logs=None):
        if not self.append:
            self.path.write_text("")
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        seconds_before = json.loads(lines[-1])["seconds"] if lines else 0.0
        self._started = time.monotonic() - seconds_before

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, "seconds": round(time.monotonic() - self._started, 3)}
        row |= {name: plain(value) for name, value in (logs or {}).items()}
        files.append(self.path, f"{json.dumps(row)}\n".encode())


class AverageEvaluation(keras.callbacks.Callback):
    """Evaluates the moving average of the weights after every epoch, and keeps its best state.

    Its metrics are added to the logs as `val_ema_loss` and so on. Meanwhile the average stands in
    for the weights; training goes on with the weights themselves. Place it before the callbacks
    that read the logs.

    Args:
        validation_data: Batches of images and labels, as for `model.evaluate`.
        best_path: The `.keras` file for the average of the epoch with the best `monitor`. Defaults
            to `None`, which keeps none.
        monitor: The metric that says which epoch is the best, as it is called in the logs. Defaults
            to `"val_ema_accuracy"`.
        mode: `"max"` if greater values are better, `"min"` if smaller ones are, or `"auto"`, which
            follows from the name. Defaults to `"auto"`.

    Raises:
        ValueError: If `mode` is none of these, or does not follow from the name. When training
            begins, if the optimizer keeps no average, or `best_path` is given and `monitor` is no
            metric of the model, or one of several numbers; one batch is evaluated to find out.

    Example:
        >>> optimizer = keras_convnext.optimizers.AdamW(use_ema=True, ema_momentum=0.9999)
        >>> model.compile(optimizer, loss, metrics=["accuracy"])
        >>> average = keras_convnext.callbacks.AverageEvaluation(validation, "best_ema.keras")
        >>> model.fit(training, validation_data=validation, callbacks=[average])
    """

    def __init__(
        self,
        validation_data: Any,
        best_path: str | Path | None = None,
        monitor: str = "val_ema_accuracy",
        mode: str = "auto",
    ) -> None:
        super().__init__()
        self.validation_data = validation_data
        self.best_path = None if best_path is None else files.expanded(best_path)
        self.monitor = monitor
        self.sign = _sign(monitor, mode)
        self.best = -math.inf

    def on_train_begin(self, logs=None):
        if not getattr(_inner_optimizer(self.model), "use_ema", False):
            raise ValueError(
                "`AverageEvaluation` needs an optimizer that keeps an average: "
                "keras_convnext.optimizers.AdamW(use_ema=True, ema_momentum=0.9999)."
            )
        if self.best_path is not None:
            # Before it has seen a batch, a model does not know the names of its metrics.
            self._monitored(self._evaluate(steps=1))

    def on_epoch_end(self, epoch, logs=None):
        with averaged_weights(self.model):
            results = self._evaluate()
            if self.best_path is not None and self._is_best(results):
                with files.whole_file(self.best_path) as written:
                    self.model.save(written)
        if logs is not None:
            logs.update(results)

    def _evaluate(self, steps=None):
        data = self.validation_data
        results = self.model.evaluate(data, steps=steps, return_dict=True, verbose=0)
        return {f"val_ema_{name}": value for name, value in results.items()}

    def _is_best(self, results):
        value = self.sign * self._monitored(results)
        is_best = value > self.best
        if is_best:
            self.best = value
        return is_best

    def _monitored(self, results) -> float:
        if self.monitor not in results:
            raise ValueError(
                f"`monitor` must be one of the metrics that the model is evaluated by, or no best "
                f"state would be kept: {', '.join(results)}. Received: {self.monitor!r}."
            )
        value = plain(results[self.monitor])
        if not isinstance(value, float):
            raise ValueError(
                f"`monitor` must be a metric of one number, by which epochs can be compared. "
                f"Received: {self.monitor!r}, which is {results[self.monitor]}."
            )
        return value


def _sign(monitor, mode):
    """Returns the factor that makes greater values of a metric the better ones."""
    if mode not in ("auto", "min", "max"):
        raise ValueError(f"`mode` must be 'auto', 'min' or 'max'. Received: {mode!r}.")
    is_greater = greater_is_better(monitor) if mode == "auto" else mode == "max"
    if is_greater is None:
        raise ValueError(
            f"Whether greater or smaller values of {monitor!r} are better does not follow from its "
            f"name. Pass `mode`, 'max' or 'min'."
        )
    return 1 if is_greater else -1


@contextlib.contextmanager
def averaged_weights(model: keras.Model):
    """Within, a model compiled with an optimizer of this package has the average of its weights.

    Example:
        >>> with keras_convnext.callbacks.averaged_weights(model):
        ...     model.save("average.keras")
    """
    pairs = _inner_optimizer(model).ema_pairs(model.trainable_variables)
    # Copies, since JAX gives away the arrays of a model in training: two must not share one.
    weights = [keras.ops.copy(variable) for _, variable in pairs]
    for average, variable in pairs:
        variable.assign(keras.ops.copy(average))
    try:
        yield
    finally:
        for (_, variable), weight in zip(pairs, weights, strict=True):
            variable.assign(weight)


def _inner_optimizer(model):
    # Under mixed_float16 Keras wraps it in one that scales the loss.
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


class StopWhenNotFinite(keras.callbacks.Callback):
    """Ends training with an error as soon as the loss is infinite or not a number.

    Raises:
        FloatingPointError: With the number of the update at which it happened.
        ValueError: If the model's training step returns no loss.

    Example:
        >>> stop = keras_convnext.callbacks.StopWhenNotFinite()
        >>> model.fit(images, labels, callbacks=[stop])
    """

    def on_train_begin(self, logs=None):
        # Counted here: an update of a scaled loss that is not finite is skipped, and not counted.
        self._updates_before = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        self._steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self._steps += 1
        if "loss" not in (logs or {}):
            raise ValueError(
                f"`StopWhenNotFinite` watches the metric 'loss', which the model's `train_step` "
                f"does not return. It returns: {', '.join(logs or {}) or 'nothing'}."
            )
        loss = logs["loss"]
        if not math.isfinite(loss):
            steps_per_update = self.model.optimizer.gradient_accumulation_steps or 1
            update = self._updates_before + math.ceil(self._steps / steps_per_update)
            raise FloatingPointError(
                f"The loss became {loss} at update {update}. A lower learning rate, a longer "
                f"warm-up or a clip norm may help."
            )


class ProgressBar(keras.callbacks.Callback):
    """Shows how far the whole run is: a bar with images per second, the loss and the time left.

    Where the error stream is no terminal, it prints one line an epoch instead.

    Args:
        epochs: Epochs of the run.
        steps_per_epoch: Steps in an epoch.
        batch_size: Images in a step.
        initial_epoch: Epochs that were done before, as in `model.fit`. Defaults to 0.

    Example:
        >>> bar = keras_convnext.callbacks.ProgressBar(10, steps_per_epoch=100, batch_size=32)
        >>> model.fit(batches, epochs=10, steps_per_epoch=100, verbose=0, callbacks=[bar])
    """

    def __init__(
        self, epochs: int, steps_per_epoch: int, batch_size: int, initial_epoch: int = 0
    ) -> None:
        super().__init__()
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.batch_size = batch_size
        self.initial_epoch = initial_epoch
        self._progress = Progress(disable=True)  # until training begins

    def on_train_begin(self, logs=None):
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}/" + str(self.epochs)),
            BarColumn(),
            TextColumn("step"),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.0f} images/s"),
            TextColumn("loss {task.fields[loss]:.4g}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}", markup=False),  # their names are the user's
            console=console,
            disable=not console.is_terminal,
        )
        # What was done before is no part of the rate, from which rich tells the time left.
        self._task = self._progress.add_task(
            "",
            total=self.epochs * self.steps_per_epoch,
            completed=self.initial_epoch * self.steps_per_epoch,
            epoch=self.initial_epoch + 1,
            rate=0.0,
            loss=math.nan,
            metrics="",
        )
        self._progress.start()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_started = time.monotonic()
        self._progress.update(self._task, epoch=epoch + 1)

    def on_train_batch_end(self, batch, logs=None):
        rate = (batch + 1) * self.batch_size / (time.monotonic() - self._epoch_started)
        loss = (logs or {}).get("loss", math.nan)
        self._progress.update(self._task, advance=1, rate=rate, loss=loss)

    def on_epoch_end(self, epoch, logs=None):
        metrics = "  ".join(f"{name} {short(value)}" for name, value in (logs or {}).items())
        self._progress.update(self._task, metrics=metrics)
        if not console.is_terminal:
            console.print(f"epoch {epoch + 1}/{self.epochs}  {metrics}", soft_wrap=True)

    def on_train_end(self, logs=None):
        self.close()

    def close(self) -> None:
        """Gives the terminal back, whether training has ended or failed."""
        self._progress.stop()
