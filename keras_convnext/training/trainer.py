"""A compiled model through `model.fit`, with all that a run shows and keeps meanwhile."""

import contextlib
import math
from collections.abc import Sequence

import keras
import numpy as np

from keras_convnext import files
from keras_convnext.callbacks import (
    EMAEvaluation,
    LearningRateLog,
    MetricsLog,
    ProgressBar,
    StopWhenNotFinite,
    ema_weights,
)
from keras_convnext.errors import RunError
from keras_convnext.recipe import Recipe
from keras_convnext.runs.checkpoints import Checkpoints, write_model
from keras_convnext.runs.directory import RunDirectory
from keras_convnext.runs.early_stopping import StopEarly
from keras_convnext.runs.plan import Plan
from keras_convnext.runs.tensorboard import EventFile


def restore(model: keras.Model, recipe: Recipe, run: RunDirectory) -> int:
    """Gives a compiled model the state a run was stopped in, and tidies up what it left.

    Returns:
        The epochs that were done; 0 if there is no checkpoint, and the model is as it was.

    Raises:
        RunError: If checkpoints or metrics cannot be read, or nothing can be written.
    """
    checkpoints = Checkpoints(run.checkpoints, recipe.checkpoint.keep)
    epoch = checkpoints.restore(model)
    if not epoch and run.last_model.exists():
        raise RunError(
            f"The unfinished run in {run.path} has no checkpoints: an earlier version of "
            f"keras_convnext made it, or they were removed. Choose another directory with "
            f"--run-dir, or begin anew with --overwrite."
        )
    with _said_in_a_sentence(checkpoints):
        run.remove_partial()
        newest = max(checkpoints.epochs(), default=0)
        if epoch < newest:
            _remove_best_of_lost_epochs(run, epoch, newest)
        run.cut_metrics(epoch)
        if epoch:
            _settle(model, run, checkpoints, epoch)
    return epoch


def fit(
    model: keras.Model,
    training,
    validation,
    recipe: Recipe,
    plan: Plan,
    run: RunDirectory,
    done: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Trains a compiled model and leaves its states in the run's directory.

    After every epoch these are the checkpoint and the last state; with validation images also the
    best one, and that of the moving average where the recipe asks for one.

    Args:
        model: The compiled model.
        training: Batches of the rest of the run, one epoch after another: images and targets, and
            weights of the images if they do not count alike.
        validation: Batches of the validation images, or `None`.
        recipe: The recipe.
        plan: Its epochs and steps.
        run: Where metrics and models go.
        done: Epochs that were done before; see `restore`. Defaults to 0.
        callbacks: Of the user's own; see `keras_convnext.train`. Defaults to none.

    Raises:
        RunError: If the loss is no longer finite, or the disk is full. The newest checkpoint is
            whole then.
    """
    checkpoints = Checkpoints(run.checkpoints, recipe.checkpoint.keep)
    events = EventFile(run.events)
    bar = ProgressBar(plan.epochs, plan.steps_per_epoch, recipe.step_batch_size, done)
    average = []
    if recipe.optimizer.ema_decay is not None and validation is not None:
        average = [EMAEvaluation(validation)]
    in_order = [
        StopWhenNotFinite(),
        LearningRateLog(),
        *average,
        *callbacks,  # which see all logs, and whose additions are written
        MetricsLog(run.metrics_file, append=True),
        _KeepStates(run, checkpoints, events),
        StopEarly(recipe.schedule.early_stopping, run),
        bar,
    ]
    _build_metrics(model, training)
    # Keras does not end its callbacks when training fails.
    with contextlib.closing(bar), _said_in_a_sentence(checkpoints):
        events.begin(run.metrics())
        model.fit(
            training,
            epochs=plan.epochs,
            initial_epoch=done,
            steps_per_epoch=plan.steps_per_epoch,
            validation_data=validation,
            shuffle=False,  # the dataset shuffles itself
            verbose=0,
            callbacks=in_order,
        )


class _KeepStates(keras.callbacks.Callback):
    """Keeps the model after every epoch.

    The checkpoint comes after the epoch's metrics and before all that follows from the two: from
    there on the epoch is done, whenever the process is killed, and before it never was.
    """

    def __init__(self, run: RunDirectory, checkpoints: Checkpoints, events: EventFile) -> None:
        super().__init__()
        self.run = run
        self.checkpoints = checkpoints
        self.events = events

    def on_epoch_end(self, epoch, logs=None):
        self.events.append(self.run.metrics()[-1])
        self.checkpoints.write(self.model, epoch + 1)
        _settle(self.model, self.run, self.checkpoints, epoch + 1)


def _settle(model: keras.Model, run: RunDirectory, checkpoints: Checkpoints, epoch: int) -> None:
    """Makes the last and the best states what the run's metrics and newest checkpoint say."""
    rows = run.metrics()
    files.link(checkpoints.path(epoch), run.last_model)
    if _is_best(rows, "val_accuracy") or _lacks(rows, "val_accuracy", run.best_model):
        files.link(checkpoints.path(epoch), run.best_model)
    if _is_best(rows, "val_ema_accuracy") or _lacks(rows, "val_ema_accuracy", run.best_ema_model):
        with ema_weights(model):
            write_model(model, run.best_ema_model)
    checkpoints.remove_before(epoch)


def _is_best(rows, metric):
    """Whether the last epoch is the first with the greatest value."""
    values = [row.get(metric, -math.inf) for row in rows]
    return values[-1] > max(values[:-1], default=-math.inf)


def _lacks(rows, metric, model_file):
    return metric in rows[-1] and not model_file.exists()


def _remove_best_of_lost_epochs(run: RunDirectory, epoch: int, newest: int) -> None:
    """Removes best states of epochs whose checkpoints are damaged, for they will be run again."""
    rows = run.metrics()[:newest]
    of_metrics = {"val_accuracy": run.best_model, "val_ema_accuracy": run.best_ema_model}
    for metric, model_file in of_metrics.items():
        if any(_is_best(rows[:lost], metric) for lost in range(epoch + 1, len(rows) + 1)):
            model_file.unlink(missing_ok=True)


@contextlib.contextmanager
def _said_in_a_sentence(checkpoints: Checkpoints):
    """Turns what stops a training run into what a person can do about it."""
    try:
        yield
    except files.WriteError as error:
        raise RunError(
            f"{error.filename} cannot be written: {error.strerror}. {_what_is_safe(checkpoints)} "
            f"Free some space, or mend what is wrong with the disk, and start again with the same "
            f"command."
        ) from error
    except FloatingPointError as error:
        raise RunError(
            f"{error} {_what_is_safe(checkpoints)} Started again with the same command, the run "
            f"would come to the same update. Begin it anew with a lower schedule.learning_rate, a "
            f"longer schedule.warmup_epochs or optimizer.global_clipnorm, and --overwrite, or in "
            f"another directory with --run-dir."
        ) from error


def _what_is_safe(checkpoints: Checkpoints) -> str:
    epochs = checkpoints.epochs()
    if not epochs:
        return "No epoch had ended."
    return f"The checkpoint of epoch {epochs[-1]} is whole."


def _build_metrics(model: keras.Model, training) -> None:
    """Shows the model one batch, of zeros, so that `fit` starts `training` once only.

    On JAX and PyTorch `fit` would take a first batch to build what is not built, and start the
    dataset again: by then KerasCV's generators have moved on, and a run would not repeat.
    """
    batch = (np.zeros(spec.shape, spec.dtype.as_numpy_dtype) for spec in training.element_spec)
    model.test_on_batch(*batch)
    model.reset_metrics()
