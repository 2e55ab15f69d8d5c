"""The recipe: everything that decides a training run, as one typed and checked YAML file.

Importing this package imports no backend, so a bad recipe is refused at once, and a recipe can name
the backend before Keras is imported.
"""

from keras_convnext.recipe.loading import load_recipe
from keras_convnext.recipe.sections import (
    Augment,
    Data,
    EarlyStopping,
    Init,
    Model,
    Optimizer,
    RandAugment,
    RandomResizedCrop,
    Recipe,
    Runtime,
    Schedule,
)

__all__ = [
    "Augment",
    "Data",
    "EarlyStopping",
    "Init",
    "Model",
    "Optimizer",
    "RandAugment",
    "RandomResizedCrop",
    "Recipe",
    "Runtime",
    "Schedule",
    "load_recipe",
]
