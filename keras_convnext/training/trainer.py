"""A compiled model through `model.fit`, with all that a run shows and keeps meanwhile."""

import contextlib

import keras
import numpy as np

from keras_convnext.callbacks import (
    AverageEvaluation,
    LearningRateLog,
    MetricsLog,
    ProgressBar,
    StopWhenNotFinite,
)
from keras_convnext.recipe import Recipe
from keras_convnext.training.plan import Plan
from keras_convnext.training.run_directory import RunDirectory


def fit(
    model: keras.Model, training, validation, recipe: Recipe, plan: Plan, run: RunDirectory
) -> None:
    """Trains a compiled model and leaves its best and its last state in the run's directory.

    Where the recipe asks for a moving average of the weights, its best state is left there too.

    Args:
        model: The compiled model.
        training: Batches of the whole run, one epoch after another.
        validation: Batches of the validation images.
        recipe: The recipe.
        plan: Its epochs and steps.
        run: Where metrics and models go.
    """
    best = keras.callbacks.ModelCheckpoint(
        run.best_model, monitor="val_accuracy", mode="max", save_best_only=True
    )
    bar = ProgressBar(plan.epochs, plan.steps_per_epoch, recipe.data.batch_size)
    average = []
    if recipe.optimizer.ema_decay is not None:
        average = [AverageEvaluation(validation, run.best_ema_model)]
    callbacks = [
        StopWhenNotFinite(),
        LearningRateLog(),
        *average,
        MetricsLog(run.metrics_file),
        best,
        keras.callbacks.ModelCheckpoint(run.last_model),
        bar,
    ]
    _build_metrics(model, training)
    with contextlib.closing(bar):  # Keras does not end its callbacks when training fails
        model.fit(
            training,
            epochs=plan.epochs,
            steps_per_epoch=plan.steps_per_epoch,
            validation_data=validation,
            shuffle=False,  # the dataset shuffles itself
            verbose=0,
            callbacks=callbacks,
        )


def _build_metrics(model: keras.Model, training) -> None:
    """Shows the model one batch, of zeros, so that `fit` starts `training` once only.

    On JAX and PyTorch `fit` would take a first batch to build what is not built, and start the
    dataset again: by then KerasCV's generators have moved on, and a run would not repeat.
    """
    images, labels = (
        np.zeros(spec.shape, spec.dtype.as_numpy_dtype) for spec in training.element_spec
    )
    model.test_on_batch(images, labels)
    model.reset_metrics()
