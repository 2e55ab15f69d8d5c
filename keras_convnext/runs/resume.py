"""Checks that a stopped run can be resumed with this recipe, data and backend."""

import json
import shlex
from typing import Any

from keras_convnext.console import console
from keras_convnext.errors import RunError
from keras_convnext.recipe import Recipe
from keras_convnext.runs.data_check import changes_since
from keras_convnext.runs.directory import RunDirectory, RunState
from keras_convnext.runs.early_stopping import is_over
from keras_convnext.runs.paths import with_absolute_paths
from keras_convnext.runs.plan import Plan

# Sections that decide what is kept and exported, and on which devices; the training is the same.
MAY_CHANGE = ("export", "checkpoint", "distribution")
# Keys that determine when a run ends.
LENGTH_KEYS = ("schedule.epochs", "schedule.early_stopping")
ALTERNATIVES = "Choose another directory with --run-dir, or start over with --overwrite"


def should_resume(run: RunDirectory, recipe: Recipe, overwrite: bool) -> bool:
    """Returns whether training resumes the run in a directory, or starts a new one there.

    Args:
        run: The run's directory.
        recipe: The requested recipe, with absolute paths.
        overwrite: Whether an earlier run is replaced.

    Raises:
        RunError: If neither is possible.
    """
    state = run.state()
    if state is RunState.NEW or overwrite:
        return False
    if state is RunState.FINISHED and not extends(run, recipe):
        raise RunError(
            f"There is a run in {run.path} already, and it is finished. Choose another directory "
            f"with --run-dir, or replace the earlier run with --overwrite."
        )
    check_same_recipe(run, recipe)
    return True


def check_same_recipe(run: RunDirectory, recipe: Recipe) -> None:
    """Raises a `RunError` if an unfinished run has another recipe, with the keys that differ.

    The length of the run may change as long as that affects none of the epochs before.

    Args:
        run: The run.
        recipe: The requested recipe, with absolute paths.
    """
    try:
        changes = _changes(run, recipe)
    except RunError as error:
        raise RunError(f"{error}\nThe run cannot be resumed. {ALTERNATIVES}.") from error
    lines = [
        f"  {key}: {before} in the run, {now} now"
        for key, (before, now) in changes.items()
        if not _only_sets_length(key, recipe)
    ]
    if lines:
        moved = f" If its images were moved, change data.path in {run.recipe_file}."
        raise RunError(
            "\n".join([f"There is an unfinished run of another recipe in {run.path}:", *lines])
            + f"\n{ALTERNATIVES}, or pass the recipe that the run was started with."
            + (moved if "data.path" in changes else "")
        )
    trained = len(run.metrics())
    if recipe.schedule.epochs < trained:
        raise RunError(
            f"The run in {run.path} has trained {trained} epochs, more than schedule.epochs "
            f"({recipe.schedule.epochs}). Pass schedule.epochs={trained} or more. {ALTERNATIVES}."
        )


def extends(run: RunDirectory, recipe: Recipe) -> bool:
    """Returns whether a recipe adds epochs to a finished run.

    Raises:
        RunError: If it would, but a longer schedule changes the epochs before; the message holds
            the command that starts a new run from the weights.
    """
    changes = _changes(run, recipe)
    if not changes or any(not key.startswith(LENGTH_KEYS) for key in changes):
        return False
    trained, epochs = len(run.metrics()), recipe.schedule.epochs
    if trained >= epochs or is_over(recipe.schedule.early_stopping, run.metrics()):
        return False
    if any(not _only_sets_length(key, recipe) for key in changes):
        raise RunError(
            f"The run in {run.path} is finished after {trained} epochs. Its learning rate followed "
            f"a cosine that ends with the run, so schedule.epochs={epochs} would have changed all "
            f"of its epochs. {_new_run(run, recipe, epochs - trained)}"
        )
    return True


def _new_run(run: RunDirectory, recipe: Recipe, epochs: int) -> str:
    """Returns advice on training further from the weights of a finished run."""
    if not recipe.network.takes_weights:
        return f"{ALTERNATIVES}."
    weights = run.last_model.absolute()
    command = ["keras-convnext", "train", str(run.recipe_file), "--run-dir", f"{run.path}_more"]
    command += [f"init.weights={weights}", f"schedule.epochs={epochs}", "schedule.warmup_epochs=0"]
    return (
        f"Start a new run from its weights, with a schedule.learning_rate of your choice:\n"
        f"  {shlex.join(command)}"
    )


def _changes(run: RunDirectory, recipe: Recipe) -> dict[str, tuple[str, str]]:
    """Returns the keys that differ, each with its value in the run and the requested one."""
    before, now = (
        one.flat(exclude=MAY_CHANGE) for one in (with_absolute_paths(run.recipe()), recipe)
    )
    shown = {key: (_shown(before, key), _shown(now, key)) for key in {**before, **now}}
    return {key: (ours, theirs) for key, (ours, theirs) in shown.items() if ours != theirs}


def _only_sets_length(key: str, recipe: Recipe) -> bool:
    """Returns whether a key determines when a run ends, and nothing in the epochs before."""
    is_epochs = key == "schedule.epochs" and recipe.schedule.name == "step"
    return is_epochs or key.startswith("schedule.early_stopping")


def check_same_data(run: RunDirectory, plan: Plan, class_names: tuple[str, ...]) -> None:
    """Raises a `RunError` if the data set has changed since the run was started."""
    if not any(run.checkpoints.glob("epoch_*")):
        return
    changes = changes_since(run, plan, class_names)
    if changes:
        raise RunError(
            "\n".join([f"The data set has changed since the run in {run.path} started:", *changes])
            + f"\nRestore it, or start over. {ALTERNATIVES}."
        )


def check_same_backend(run: RunDirectory, environment: dict[str, Any]) -> None:
    """Raises a `RunError` if the run was started on another backend; warns of other versions.

    Args:
        run: The run.
        environment: The result of `runtime.describe` now.
    """
    before = run.read(run.environment_file)
    if before["backend"] != environment["backend"]:
        raise RunError(
            f"The run in {run.path} was started on {before['backend']}, and Keras runs on "
            f"{environment['backend']} now, whose results differ. Set "
            f"KERAS_BACKEND={before['backend']}. {ALTERNATIVES}."
        )
    versions = [
        f"{package} {version} in the run, {environment['packages'].get(package)} now"
        for package, version in before["packages"].items()
        if version != environment["packages"].get(package)
    ]
    if versions:
        console.print(
            f"The run was started with other versions, so its results may differ in the last bits: "
            f"{'; '.join(versions)}.",
            style="yellow",
            soft_wrap=True,
        )


def _shown(values: dict[str, Any], key: str) -> str:
    # A section that is null on one side has no keys on that side.
    return json.dumps(values[key], ensure_ascii=False) if key in values else "nothing"
