"""Makes the paths of a recipe absolute."""

import os

from keras_convnext.catalog.checkpoints import CHECKPOINTS
from keras_convnext.recipe import Recipe


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """Returns the recipe with `data.path` and `init.weights` absolute, where they are paths.

    A run stores absolute paths, since it may be resumed, evaluated and exported from another
    directory.
    """
    data, init = recipe.data, recipe.init
    if data.path is not None:
        data = data.model_copy(update={"path": _absolute(data.path)})
    if init.weights is not None and init.weights not in CHECKPOINTS:
        init = init.model_copy(update={"weights": _absolute(init.weights)})
    return recipe.model_copy(update={"data": data, "init": init})


def _absolute(path: str) -> str:
    is_address = "://" in path
    return path if is_address else os.path.abspath(os.path.expanduser(path))
