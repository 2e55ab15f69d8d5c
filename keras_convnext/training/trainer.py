"""From a recipe's sections to a compiled model, and from there through `model.fit`."""

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
from keras_convnext.models import ConvNeXt
from keras_convnext.optimizers import AdamW
from keras_convnext.recipe import Model, Recipe
from keras_convnext.schedules import WarmupCosine
from keras_convnext.training.plan import Plan
from keras_convnext.training.run_directory import RunDirectory


def build_model(settings: Model, image_size: int, classes: int) -> keras.Model:
    """Returns the network of a recipe, from images of `(batch, size, size, 3)` to logits."""
    depths, dims = settings.architecture()
    return ConvNeXt(
        depths,
        dims,
        patch_size=settings.patch_size,
        stem_norm=settings.stem_norm,
        kernel_size=settings.kernel_size,
        input_shape=(image_size, image_size, 3),
        classes=classes,
        classifier_activation=None,
        name=settings.name,
        drop_path_rate=settings.drop_path_rate,
        layer_scale_init_value=settings.layer_scale_init_value,
        head_init_scale=settings.head_init_scale,
    )


def compile_model(model: keras.Model, recipe: Recipe, plan: Plan) -> None:
    """Compiles a model with the recipe's loss, optimizer and schedule."""
    optimizer = AdamW(
        WarmupCosine(
            recipe.schedule.learning_rate,
            plan.total_steps,
            plan.warmup_steps,
            recipe.schedule.final_learning_rate,
        ),
        weight_decay=recipe.optimizer.weight_decay,
        beta_1=recipe.optimizer.beta_1,
        beta_2=recipe.optimizer.beta_2,
        epsilon=recipe.optimizer.epsilon,
        global_clipnorm=recipe.optimizer.clip_norm,
        layer_decay=recipe.optimizer.layer_decay,
        layer_decay_rule=recipe.optimizer.layer_decay_rule,
        **_average(recipe.optimizer.ema_decay),
    )
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=recipe.augment.smoothing_in_loss
    )
    model.compile(optimizer, loss, metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")])


def _average(decay: float | None) -> dict[str, float | bool]:
    return {} if decay is None else {"use_ema": True, "ema_momentum": decay}


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
