"""A recipe's network, compiled with its loss, optimizer and schedule."""

import keras

from keras_convnext.models.registry import build
from keras_convnext.recipe import Init, Recipe
from keras_convnext.runs.plan import Plan
from keras_convnext.training.optimizer import make_optimizer
from keras_convnext.weights.load import load_weights


def build_model(recipe: Recipe, classes: int) -> keras.Model:
    """Returns the network of a recipe, from images of `(batch, size, size, 3)` to logits.

    Layers that the recipe does not train are frozen. Images are normalized as the weights that the
    recipe starts from expect.
    """
    network = recipe.network
    preprocessing = recipe.preprocessing
    model = build(
        network,
        input_shape=(recipe.data.image_size, recipe.data.image_size, 3),
        classes=classes,
        classifier_activation=None,
        mean=preprocessing.mean,
        std=preprocessing.std,
        **{key: getattr(recipe.model, key) for key in network.settings},
    )
    if recipe.init.train == "head":
        for layer in model.layers:
            layer.trainable = layer.name == "head"
    return model


def initialize(model: keras.Model, init: Init) -> None:
    """Gives a new network the weights that the recipe starts from, if it names any.

    A classifier of another number of classes keeps its random weights, which is logged.

    Raises:
        WeightsError: If the weights cannot be had, or are not this network's.
    """
    if init.weights is not None:
        load_weights(model, init.weights)


def compile_model(model: keras.Model, recipe: Recipe, plan: Plan) -> None:
    """Compiles a model with the recipe's loss, optimizer and schedule."""
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=recipe.augment.smoothing_in_loss
    )
    accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
    model.compile(make_optimizer(recipe, plan), loss, metrics=[accuracy])
