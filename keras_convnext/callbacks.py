"""Callbacks for `model.fit`: logs, the EMA of the weights, and a progress bar."""

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
from keras_convnext.metric_values import as_line, greater_is_better, plain, short


class LearningRateLog(keras.callbacks.Callback):
    """Adds the learning rate to the logs of every epoch; Keras omits that of a schedule.

    Place it before the callbacks that read the logs.
    """

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["learning_rate"] = float(
                keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
            )


class MetricsLog(keras.callbacks.Callback):
    """Writes the metrics of every epoch as one line of JSON, with epochs counted from 1.

    Lines are appended atomically, at the end of each epoch. A metric of several numbers, such as
    `keras.metrics.F1Score()`, becomes a list. Text stays text.

    Args:
        path: File to write.
        append: Whether to keep the file's lines and continue its seconds, as when a run is resumed.
            Defaults to `False`, which replaces the file when training begins.

    Raises:
        OSError: If the file cannot be written.

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
        seconds = time.monotonic() - self._started
        files.append(self.path, as_line(epoch + 1, seconds, logs or {}))


class EMAEvaluation(keras.callbacks.Callback):
    """Evaluates the EMA (exponential moving average) of the weights after every epoch.

    It adds the metrics to the logs as `val_ema_loss` and so on, and can save the model with the
    best EMA. The model has the EMA as its weights only during the evaluation. Place it before the
    callbacks that read the logs.

    Args:
        validation_data: Batches of images and labels, as for `model.evaluate`.
        best_path: The `.keras` file for the model of the epoch with the best `monitor`, with the
            EMA as its weights. Defaults to `None`, which saves none.
        monitor: The metric to compare epochs by, under its name in the logs. Defaults to
            `"val_ema_accuracy"`.
        mode: `"max"` if greater values are better, `"min"` if smaller values are, or `"auto"`,
            which decides by the name. Defaults to `"auto"`.

    Raises:
        ValueError: If `mode` is unknown, or cannot be decided by the name. When training begins, if
            the optimizer has no EMA, or if `best_path` is given and `monitor` is not a metric of
            the model with a single number. One batch is evaluated to find out.

    Example:
        >>> optimizer = keras_convnext.optimizers.AdamW(use_ema=True, ema_momentum=0.9999)
        >>> model.compile(optimizer, loss, metrics=["accuracy"])
        >>> ema = keras_convnext.callbacks.EMAEvaluation(validation, "best_ema.keras")
        >>> model.fit(training, validation_data=validation, callbacks=[ema])
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
                "`EMAEvaluation` needs an optimizer that keeps an EMA of the weights: "
                "keras_convnext.optimizers.AdamW(use_ema=True, ema_momentum=0.9999)."
            )
        if self.best_path is not None:
            # A model knows the names of its metrics only after its first batch.
            self._monitored(self._evaluate(steps=1))

    def on_epoch_end(self, epoch, logs=None):
        with ema_weights(self.model):
            results = self._evaluate()
            if self.best_path is not None and self._is_best(results):
                with files.atomic_write(self.best_path) as written:
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
                f"`monitor` must be one of the metrics that the model is evaluated with, or no "
                f"best state would be saved: {', '.join(results)}. Received: {self.monitor!r}."
            )
        value = plain(results[self.monitor])
        if not isinstance(value, float):
            raise ValueError(
                f"`monitor` must be a metric with a single number, so that epochs can be compared. "
                f"Received: {self.monitor!r}, which is {results[self.monitor]}."
            )
        return value


def _sign(monitor, mode):
    """Returns the factor that turns the metric into one whose greater values are better."""
    if mode not in ("auto", "min", "max"):
        raise ValueError(f"`mode` must be 'auto', 'min' or 'max'. Received: {mode!r}.")
    is_greater = greater_is_better(monitor) if mode == "auto" else mode == "max"
    if is_greater is None:
        raise ValueError(
            f"The name {monitor!r} does not say whether greater or smaller values are better. Pass "
            f"`mode`, 'max' or 'min'."
        )
    return 1 if is_greater else -1


@contextlib.contextmanager
def ema_weights(model: keras.Model):
    """Replaces a model's weights by their EMA within the context.

    The model must be compiled with an optimizer of this package.

    Args:
        model: The model. Without `use_ema` in its optimizer, its weights stay as they are.

    Example:
        >>> with keras_convnext.callbacks.ema_weights(model):
        ...     model.save("ema.keras")
    """
    pairs = _inner_optimizer(model).ema_pairs(model.trainable_variables)
    # Copies, since JAX donates the arrays of a model in training: two must not share one.
    weights = [keras.ops.copy(variable) for _, variable in pairs]
    for average, variable in pairs:
        variable.assign(keras.ops.copy(average))
    try:
        yield
    finally:
        for (_, variable), weight in zip(pairs, weights, strict=True):
            variable.assign(weight)


def _inner_optimizer(model):
    # Under mixed_float16 Keras wraps the optimizer in one that scales the loss.
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


class StopWhenNotFinite(keras.callbacks.Callback):
    """Stops training with an error when the loss is infinite or NaN.

    Raises:
        FloatingPointError: With the number of the update at which it happened.
        ValueError: If the model's training step returns no loss.

    Example:
        >>> stop = keras_convnext.callbacks.StopWhenNotFinite()
        >>> model.fit(images, labels, callbacks=[stop])
    """

    def on_train_begin(self, logs=None):
        # Counted here, since Keras skips and does not count an update with a loss scale overflow.
        self._updates_before = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        self._steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self._steps += 1
        if "loss" not in (logs or {}):
            raise ValueError(
                f"`StopWhenNotFinite` reads the metric 'loss', which the model's `train_step` does "
                f"not return. It returns: {', '.join(logs or {}) or 'nothing'}."
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
    """Shows the progress of the whole run, with images per second, the loss and the time left.

    If the error stream is not a terminal, it prints one line per epoch instead.

    Args:
        epochs: Epochs of the run.
        steps_per_epoch: Steps in an epoch.
        batch_size: Images in a step.
        initial_epoch: Number of completed epochs, as in `model.fit`. Defaults to 0.

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
            TextColumn("{task.fields[metrics]}", markup=False),  # users choose the names
            console=console,
            disable=not console.is_terminal,
        )
        # rich estimates the time left from the steps after these.
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
        """Releases the terminal, after training has ended or failed."""
        self._progress.stop()
