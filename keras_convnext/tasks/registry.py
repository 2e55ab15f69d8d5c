"""The tasks that a recipe may name."""

import importlib

from keras_convnext.errors import RecipeError
from keras_convnext.tasks.base import Task

# Name -> module and attribute, imported when the task is first used.
TASKS: dict[str, str | Task] = {
    "classification": "keras_convnext.tasks.classification.task:CLASSIFICATION",
}


def register_task(name: str, task: Task) -> None:
    """Makes a task known by a name, which recipes may then give as `task`.

    Args:
        name: The value of the recipe's key `task`.
        task: The task. It replaces an earlier one of that name.

    Example:
        >>> register_task("regression", Regression())
        >>> keras_convnext.train(keras_convnext.load_recipe("ages.yaml", ["task=regression"]))
    """
    TASKS[name] = task


def get_task(name: str) -> Task:
    """Returns the task of a name.

    Raises:
        RecipeError: If there is no such task.
    """
    if name not in TASKS:
        raise RecipeError(
            f"task must be one of {', '.join(TASKS)}. Received: {name!r}. A task of your own must "
            f"be registered first, with keras_convnext.tasks.registry.register_task."
        )
    found = TASKS[name]
    if isinstance(found, Task):
        return found
    module, _, attribute = found.partition(":")
    return getattr(importlib.import_module(module), attribute)
