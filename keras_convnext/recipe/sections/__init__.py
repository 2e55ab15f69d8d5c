"""The sections of a recipe, one file each: typed keys with their defaults, limits and meaning."""

from keras_convnext.recipe.sections.augment import Augment, RandAugment, RandomResizedCrop
from keras_convnext.recipe.sections.checkpoint import Checkpoint
from keras_convnext.recipe.sections.data import Data
from keras_convnext.recipe.sections.distribution import Distribution
from keras_convnext.recipe.sections.export import Export
from keras_convnext.recipe.sections.init import Init
from keras_convnext.recipe.sections.model import Model
from keras_convnext.recipe.sections.optimizer import Optimizer
from keras_convnext.recipe.sections.recipe import Recipe
from keras_convnext.recipe.sections.runtime import Runtime
from keras_convnext.recipe.sections.schedule import EarlyStopping, Schedule

__all__ = [
    "Augment",
    "Checkpoint",
    "Data",
    "Distribution",
    "EarlyStopping",
    "Export",
    "Init",
    "Model",
    "Optimizer",
    "RandAugment",
    "RandomResizedCrop",
    "Recipe",
    "Runtime",
    "Schedule",
]
