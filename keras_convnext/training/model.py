"""A recipe's network, compiled with its loss, optimizer and schedule."""

import keras

from keras_convnext.models import ConvNeXt
from keras_convnext.recipe import Model, Recipe
from keras_convnext.training.optimizer import make_optimizer
from keras_convnext.training.plan import Plan


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
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=recipe.augment.smoothing_in_loss
    )
    accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
    model.compile(make_optimizer(recipe, plan), loss, metrics=[accuracy])
