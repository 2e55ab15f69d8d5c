"""Trains a compiled model with `model.fit`, and keeps the run's directory up to date."""

import contextlib
from collections.abc import Sequence
from typing import Any

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
from keras_convnext.distribution.agreement import check_same, in_every_process, in_main_process
from keras_convnext.distribution.engine import ONE_DEVICE, Engine, MakeShard
from keras_convnext.errors import RunError
from keras_convnext.recipe import Recipe
from keras_convnext.runs.checkpoints import Checkpoints, write_model
from keras_convnext.runs.directory import RunDirectory
from keras_convnext.runs.early_stopping import StopEarly
from keras_convnext.runs.metrics import MetricsFile, Monitor
from keras_convnext.runs.plan import Plan
from keras_convnext.runs.tensorboard import EventFile

ACCURACY = Monitor("accuracy", "max")


def restore(
    model: keras.Model,
    recipe: Recipe,
    run: RunDirectory,
    monitor: Monitor = ACCURACY,
    engine: Engine = ONE_DEVICE,
) -> int:
    """Restores the newest checkpoint of a stopped run, and removes its incomplete files.

    Every process reads the checkpoint; the process with rank 0 changes the files.

    Args:
        model: The compiled model.
        recipe: The recipe.
        run: The run.
        monitor: The metric that ranks the epochs. Defaults to the accuracy.
        engine: The devices and processes. Defaults to one device.

    Returns:
        The number of epochs already trained; 0 if there is no checkpoint, and the model is
        unchanged then.

    Raises:
        RunError: If checkpoints or metrics cannot be read, or files cannot be written.
    """
    checkpoints = Checkpoints(run.checkpoints, recipe.checkpoint.keep)
    epoch = in_every_process(engine, lambda: checkpoints.restore(model))
    check_same(
        engine,
        "checkpoints",
        {"newest epoch": epoch},
        f"Every process must be able to read {run.path}.",
    )

    def tidy() -> None:
        _tidy(model, run, checkpoints, epoch, monitor)

    in_main_process(engine, lambda: engine.run_alone(tidy))
    return epoch


def _tidy(
    model: keras.Model, run: RunDirectory, checkpoints: Checkpoints, epoch: int, monitor: Monitor
) -> None:
    """Makes the files of a stopped run agree with the checkpoint that was restored."""
    if not epoch and run.last_model.exists():
        raise RunError(
            f"The unfinished run in {run.path} has no checkpoints: an earlier version of "
            f"keras_convnext made it, or they were removed. Choose another directory with "
            f"--run-dir, or start over with --overwrite."
        )
    with as_run_error(checkpoints):
        run.remove_partial()
        newest = max(checkpoints.epochs(), default=0)
        if epoch < newest:
            _remove_best_of_lost_epochs(run, epoch, newest, monitor)
        MetricsFile(run.metrics_file).cut(epoch)
        if run.stopped_after() != epoch:  # the epoch that was stopped has no checkpoint
            run.stop_file.unlink(missing_ok=True)
        if epoch:
            _update_models(model, run, checkpoints, epoch, monitor)


def fit(
    model: keras.Model,
    make_training: MakeShard,
    make_validation: MakeShard | None,
    recipe: Recipe,
    plan: Plan,
    run: RunDirectory,
    initial_epoch: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    monitor: Monitor = ACCURACY,
    engine: Engine = ONE_DEVICE,
) -> None:
    """Trains a compiled model and writes its states to the run's directory.

    After every epoch it writes the checkpoint and the last model, and with validation images also
    the best model, and the best moving average if the recipe asks for one. Of several processes
    the one with rank 0 writes; the users' callbacks run in all.

    Args:
        model: The compiled model.
        make_training: Function that returns a shard of the remaining epochs, one after another:
            batches of inputs, targets and, optionally, weights of the images. See
            `Engine.training_data`.
        make_validation: Function that returns a shard of the validation images, or `None`.
        recipe: The recipe.
        plan: Its epochs and steps.
        run: The run, to which metrics and models are written.
        initial_epoch: The number of epochs already trained; see `restore`. Defaults to 0.
        callbacks: The user's callbacks; see `keras_convnext.train`. Defaults to none.
        monitor: The metric that ranks the epochs. Defaults to the accuracy.
        engine: The devices and processes. Defaults to one device.

    Raises:
        RunError: If the loss is no longer finite, or the disk is full. The newest checkpoint is
            complete then.
    """
    checkpoints = Checkpoints(run.checkpoints, recipe.checkpoint.keep)
    training, batches = _training_data(make_training, engine)
    validation = None if make_validation is None else engine.evaluation_data(make_validation)
    events = EventFile(run.events)
    bar = ProgressBar(plan.epochs, plan.steps_per_epoch, recipe.step_batch_size, initial_epoch)
    average = []
    if recipe.optimizer.ema_decay is not None and validation is not None:
        average = [EMAEvaluation(validation)]
    writers = [
        MetricsLog(run.metrics_file, append=True),
        _SaveEpoch(run, checkpoints, events, monitor, engine),
        StopEarly(recipe.schedule.early_stopping, run),
        bar,
    ]
    in_order = [
        StopWhenNotFinite(),
        LearningRateLog(),
        *average,
        *callbacks,  # they see all logs, and their additions are written
        *(writers if engine.is_main else []),
        _StopTogether(engine),
    ]
    if not engine.builds_metrics:
        _build_metrics(model, batches)
    # Keras does not end its callbacks when training fails.
    with contextlib.closing(bar), as_run_error(checkpoints):
        if engine.is_main:
            events.begin(run.metrics())
        model.fit(
            training,
            epochs=plan.epochs,
            initial_epoch=initial_epoch,
            steps_per_epoch=plan.steps_per_epoch,
            validation_data=validation,
            shuffle=False,  # the dataset shuffles itself
            verbose=0,
            callbacks=in_order,
        )


class _StopTogether(keras.callbacks.Callback):
    """Ends training in all processes after the epoch in which the main process ends it."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = self.engine.broadcast(self.model.stop_training)


class _SaveEpoch(keras.callbacks.Callback):
    """Saves the model after every epoch.

    The checkpoint commits the epoch: it is written after the epoch's metrics, and before everything
    that follows from the two. A process killed earlier has not trained the epoch.
    """

    def __init__(
        self,
        run: RunDirectory,
        checkpoints: Checkpoints,
        events: EventFile,
        monitor: Monitor,
        engine: Engine,
    ) -> None:
        super().__init__()
        self.engine = engine
        self.run = run
        self.checkpoints = checkpoints
        self.events = events
        self.monitor = monitor

    def on_epoch_end(self, epoch, logs=None):
        self.events.append(self.run.metrics()[-1])
        if self.model.stop_training:  # by a callback of the user's; `StopEarly` runs later
            self.run.record_stop(epoch + 1)
        self.engine.run_alone(lambda: self._write(epoch + 1))

    def _write(self, epoch: int) -> None:
        self.checkpoints.write(self.model, epoch)
        _update_models(self.model, self.run, self.checkpoints, epoch, self.monitor)


def _update_models(
    model: keras.Model, run: RunDirectory, checkpoints: Checkpoints, epoch: int, monitor: Monitor
) -> None:
    """Makes the last and the best models agree with the run's metrics and newest checkpoint."""
    rows = run.metrics()
    files.link(checkpoints.path(epoch), run.last_model)
    if _needs_update(rows, "val_", monitor, run.best_model):
        files.link(checkpoints.path(epoch), run.best_model)
    if _needs_update(rows, "val_ema_", monitor, run.best_ema_model):
        with ema_weights(model):
            write_model(model, run.best_ema_model)
    checkpoints.remove_before(epoch)


def _needs_update(rows, prefix, monitor, model_file):
    """Returns whether the last epoch is the best one, or the best one's model is missing."""
    is_missing = prefix + monitor.metric in rows[-1] and not model_file.exists()
    return is_missing or monitor.is_best(rows, prefix)


def _remove_best_of_lost_epochs(
    run: RunDirectory, epoch: int, newest: int, monitor: Monitor
) -> None:
    """Removes the best models of epochs whose checkpoints are damaged, which are trained again."""
    rows = run.metrics()[:newest]
    for prefix, model_file in (("val_", run.best_model), ("val_ema_", run.best_ema_model)):
        if any(monitor.is_best(rows[:lost], prefix) for lost in range(epoch + 1, len(rows) + 1)):
            model_file.unlink(missing_ok=True)


@contextlib.contextmanager
def as_run_error(checkpoints: Checkpoints):
    """Turns a full disk or a diverged loss into a `RunError` with advice."""
    try:
        yield
    except files.WriteError as error:
        raise RunError(
            f"{error.filename} cannot be written: {error.strerror}. {_newest_epoch(checkpoints)} "
            f"Free some space, or repair the disk, and start again with the same command."
        ) from error
    except FloatingPointError as error:
        raise RunError(
            f"{error} {_newest_epoch(checkpoints)} Started again with the same command, the run "
            f"would reach the same update. Start it over with a lower schedule.learning_rate, a "
            f"longer schedule.warmup_epochs or optimizer.global_clipnorm, and --overwrite, or in "
            f"another directory with --run-dir."
        ) from error


def _newest_epoch(checkpoints: Checkpoints) -> str:
    epochs = checkpoints.epochs()
    if not epochs:
        return "No epoch had ended."
    return f"The checkpoint of epoch {epochs[-1]} is complete."


def _training_data(make: MakeShard, engine: Engine) -> tuple[Any, Any]:
    """Returns what `fit` takes, and the batches of this process that it is made of."""
    made = []

    def remember(index, count):
        made.append(make(index, count))
        return made[-1]

    return engine.training_data(remember), made[0]


def _build_metrics(model: keras.Model, batches: Any) -> None:
    """Evaluates the model on one batch of zeros, so that `fit` starts its data only once.

    On JAX and PyTorch `fit` would otherwise take a first batch to build the metrics, and start the
    dataset again. KerasCV's stateful generators would have advanced, and a run would not repeat.
    """
    batch = keras.tree.map_structure(
        lambda spec: np.zeros(spec.shape, spec.dtype.as_numpy_dtype), batches.element_spec
    )
    model.test_on_batch(*batch)
    model.reset_metrics()
