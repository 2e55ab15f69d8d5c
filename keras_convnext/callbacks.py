"""What is seen and kept of a running `model.fit`. Each callback can be used alone."""

import contextlib
import json
import math
import time
from pathlib import Path

import keras
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from keras_convnext.console import console


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

    Args:
        path: File to write; what it held is replaced when training begins.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)

    def on_train_begin(self, logs=None):
        self.path.write_text("")
        self._started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, "seconds": round(time.monotonic() - self._started, 3)}
        row |= {name: float(value) for name, value in (logs or {}).items()}
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


class AverageEvaluation(keras.callbacks.Callback):
    """Evaluates the moving average of the weights after every epoch, and keeps its best state.

    Its metrics are added to the logs as `val_ema_loss` and so on. Meanwhile the average stands in
    for the weights; training goes on with the weights themselves. Place it before the callbacks
    that read the logs.

    Args:
        validation_data: Batches of images and labels, as for `model.evaluate`.
        best_path: The `.keras` file for the average of the epoch with the greatest
            `val_ema_accuracy`. Defaults to `None`, which keeps none.

    Raises:
        ValueError: When training begins, if the optimizer keeps no average.

    Example:
        >>> optimizer = keras_convnext.optimizers.AdamW(use_ema=True, ema_momentum=0.9999)
        >>> model.compile(optimizer, loss, metrics=["accuracy"])
        >>> average = keras_convnext.callbacks.AverageEvaluation(validation, "best_ema.keras")
        >>> model.fit(training, validation_data=validation, callbacks=[average])
    """

    def __init__(self, validation_data, best_path: str | Path | None = None) -> None:
        super().__init__()
        self.validation_data = validation_data
        self.best_path = best_path
        self.best = -math.inf

    def on_train_begin(self, logs=None):
        if not getattr(self._optimizer(), "use_ema", False):
            raise ValueError(
                "`AverageEvaluation` needs an optimizer that keeps an average: "
                "keras_convnext.optimizers.AdamW(use_ema=True, ema_momentum=0.9999)."
            )

    def on_epoch_end(self, epoch, logs=None):
        with averaged_weights(self.model, self._optimizer()):
            results = self.model.evaluate(self.validation_data, return_dict=True, verbose=0)
            accuracy = results.get("accuracy", -math.inf)
            if self.best_path is not None and accuracy > self.best:
                self.best = accuracy
                self.model.save(self.best_path)
        if logs is not None:
            logs.update({f"val_ema_{name}": value for name, value in results.items()})

    def _optimizer(self):
        # Under mixed_float16 Keras wraps it in one that scales the loss.
        return getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)


@contextlib.contextmanager
def averaged_weights(model: keras.Model, optimizer):
    """Within, the model has the moving average of its weights."""
    pairs = optimizer.averages(model.trainable_variables)
    # Copies, since JAX gives away the arrays of a model in training: two must not share one.
    weights = [keras.ops.copy(variable) for _, variable in pairs]
    for average, variable in pairs:
        variable.assign(keras.ops.copy(average))
    try:
        yield
    finally:
        for (_, variable), weight in zip(pairs, weights, strict=True):
            variable.assign(weight)


class StopWhenNotFinite(keras.callbacks.Callback):
    """Ends training with an error as soon as the loss is infinite or not a number.

    Raises:
        FloatingPointError: With the number of the update at which it happened.
    """

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            update = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
            raise FloatingPointError(
                f"The loss became {loss} at update {update}. A lower learning rate, a longer "
                f"warm-up or a clip norm may help; the last saved checkpoint is untouched."
            )


class ProgressBar(keras.callbacks.Callback):
    """Shows how far the whole run is: a bar with images per second and the time left.

    Where the error stream is no terminal, it prints one line an epoch instead.

    Args:
        epochs: Epochs of the run.
        steps_per_epoch: Updates in an epoch.
        batch_size: Images in an update.
    """

    def __init__(self, epochs: int, steps_per_epoch: int, batch_size: int) -> None:
        super().__init__()
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.batch_size = batch_size

    def on_train_begin(self, logs=None):
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}/" + str(self.epochs)),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.0f} images/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(
            "", total=self.epochs * self.steps_per_epoch, epoch=1, rate=0.0, metrics=""
        )
        self._progress.start()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_started = time.monotonic()
        self._progress.update(self._task, epoch=epoch + 1)

    def on_train_batch_end(self, batch, logs=None):
        rate = (batch + 1) * self.batch_size / (time.monotonic() - self._epoch_started)
        self._progress.update(self._task, advance=1, rate=rate)

    def on_epoch_end(self, epoch, logs=None):
        metrics = "  ".join(f"{name} {float(value):.4g}" for name, value in (logs or {}).items())
        self._progress.update(self._task, metrics=metrics)
        if not console.is_terminal:
            console.print(f"epoch {epoch + 1}/{self.epochs}  {metrics}", soft_wrap=True)

    def on_train_end(self, logs=None):
        self.close()

    def close(self) -> None:
        """Gives the terminal back, whether training has ended or failed."""
        self._progress.stop()
