"""A recipe's network, compiled with its loss, optimizer and schedule."""

import keras

from keras_convnext.models import ConvNeXt
from keras_convnext.models.inputs import normalize
from keras_convnext.recipe import Init, Model, Recipe
from keras_convnext.recipe.sections import RESNET
from keras_convnext.runs.plan import Plan
from keras_convnext.training.optimizer import make_optimizer
from keras_convnext.weights.load import load_weights


def build_model(recipe: Recipe, classes: int) -> keras.Model:
    """Returns the network of a recipe, from images of `(batch, size, size, 3)` to logits.

    What the recipe does not train is frozen.
    """
    image_shape = (recipe.data.image_size, recipe.data.image_size, 3)
    if recipe.model.name == RESNET:
        return _resnet(image_shape, classes)
    model = _convnext(recipe.model, image_shape, classes)
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


def _convnext(settings: Model, image_shape: tuple[int, int, int], classes: int) -> keras.Model:
    depths, dims = settings.architecture()
    return ConvNeXt(
        depths,
        dims,
        patch_size=settings.patch_size,
        stem_norm=settings.stem_norm,
        kernel_size=settings.kernel_size,
        input_shape=image_shape,
        classes=classes,
        classifier_activation=None,
        name=settings.name,
        drop_path_rate=settings.drop_path_rate,
        layer_scale_init_value=settings.layer_scale_init_value,
        head_init_scale=settings.head_init_scale,
    )


def _resnet(image_shape: tuple[int, int, int], classes: int) -> keras.Model:
    image = keras.Input(image_shape, name="image")
    backbone = keras.applications.ResNet50(
        weights=None, input_tensor=normalize(image), classes=classes, classifier_activation=None
    )
    return keras.Model(image, backbone.output, name=RESNET)


def compile_model(model: keras.Model, recipe: Recipe, plan: Plan) -> None:
    """Compiles a model with the recipe's loss, optimizer and schedule."""
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=recipe.augment.smoothing_in_loss
    )
    accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
    model.compile(make_optimizer(recipe, plan), loss, metrics=[accuracy])
