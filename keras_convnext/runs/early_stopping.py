"""Early stopping, computed from the run's metrics alone.

A run that was interrupted and resumed therefore ends after the same epoch.
"""

import math

import keras

from keras_convnext.console import console
from keras_convnext.metric_values import greater_is_better
from keras_convnext.recipe import EarlyStopping
from keras_convnext.runs.directory import RunDirectory


def is_over(settings: EarlyStopping | None, rows: list[dict[str, float]]) -> bool:
    """Returns whether the metric has not improved for `patience` epochs.

    Args:
        settings: The metric and the patience; `None` never ends a run.
        rows: The metrics of every epoch.
    """
    if settings is None:
        return False
    sign = 1 if greater_is_better(settings.monitor) else -1
    best, waited = -math.inf, 0
    for row in rows:
        value = sign * row[settings.monitor]
        if value - settings.min_delta > best:
            best, waited = value, 0
        else:
            waited += 1
        if waited >= settings.patience:
            return True
    return False


class StopEarly(keras.callbacks.Callback):
    """Ends training as soon as `is_over`; place it after the callback that writes the metrics."""

    def __init__(self, settings: EarlyStopping | None, run: RunDirectory) -> None:
        super().__init__()
        self.settings = settings
        self.run = run

    def on_epoch_end(self, epoch, logs=None):
        if self.settings is not None and is_over(self.settings, self.run.metrics()):
            self.model.stop_training = True
            console.print(
                f"Training ends after epoch {epoch + 1}: {self.settings.monitor} did not improve "
                f"in the last {self.settings.patience} (schedule.early_stopping.patience)",
                soft_wrap=True,
            )
