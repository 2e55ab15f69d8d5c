"""Builds a recipe's network, and loads its initial weights."""

import keras

from keras_convnext.models.registry import build
from keras_convnext.recipe import Init, Recipe
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
    """Loads the recipe's initial weights into a new network, if it names any.

    A head for another number of classes keeps its random weights, which is logged.

    Raises:
        WeightsError: If the weights cannot be fetched, or belong to another network.
    """
    if init.weights is not None:
        load_weights(model, init.weights)
