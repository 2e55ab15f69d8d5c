"""The recipe: a YAML file with typed and checked keys that describes a training run.

Importing this package imports no backend: an invalid recipe is refused at once, and a recipe can
choose the backend before Keras is imported.
"""

from keras_convnext.recipe.loading import load_recipe
from keras_convnext.recipe.sections import (
    Augment,
    Data,
    Distribution,
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
    "Distribution",
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
