"""Whether a run that was stopped may be gone on with: it must be the run that was asked for."""

import json
import shlex
from typing import Any

from keras_convnext.console import console
from keras_convnext.errors import RunError
from keras_convnext.recipe import Recipe
from keras_convnext.runs.data_check import changes_since
from keras_convnext.runs.directory import RunDirectory
from keras_convnext.runs.early_stopping import is_over
from keras_convnext.runs.paths import with_absolute_paths
from keras_convnext.runs.plan import Plan

# Sections that decide what is kept and written, and not what is learned.
MAY_CHANGE = ("export", "checkpoint")
# Keys that say when a run ends.
OF_THE_END = ("schedule.epochs", "schedule.early_stopping")
INSTEAD = "Choose another directory with --run-dir, or begin anew with --overwrite"


def refuse_other_recipe(run: RunDirectory, recipe: Recipe) -> None:
    """Raises a `RunError` if an unfinished run is of another recipe, with the keys that differ.

    When a run ends may change, as long as that changes nothing in the epochs before.

    Args:
        run: The run.
        recipe: The recipe that is asked for, with absolute paths.
    """
    try:
        changes = _changes(run, recipe)
    except RunError as error:
        raise RunError(f"{error}\nThe run cannot be gone on with. {INSTEAD}.") from error
    lines = [
        f"  {key}: {before} in the run, {now} now"
        for key, (before, now) in changes.items()
        if not _is_of_the_end(key, recipe)
    ]
    if lines:
        moved = f" If its images were moved, change data.path in {run.recipe_file}."
        raise RunError(
            "\n".join([f"There is an unfinished run of another recipe in {run.path}:", *lines])
            + f"\n{INSTEAD}, or give the recipe that the run was begun with."
            + (moved if "data.path" in changes else "")
        )
    done = len(run.metrics())
    if recipe.schedule.epochs < done:
        raise RunError(
            f"The run in {run.path} has {done} epochs behind it, more than schedule.epochs "
            f"({recipe.schedule.epochs}). Pass schedule.epochs={done} or more. {INSTEAD}."
        )


def asks_for_more(run: RunDirectory, recipe: Recipe) -> bool:
    """Returns whether a recipe asks a finished run for more epochs, and it can have them.

    Raises:
        RunError: If it cannot, since with more epochs those before would have been others; the
            message holds the command that starts a new run from its weights.
    """
    if not run.is_run(run.path) or not run.is_finished():
        return False
    changes = _changes(run, recipe)
    if not changes or any(not key.startswith(OF_THE_END) for key in changes):
        return False
    done, epochs = len(run.metrics()), recipe.schedule.epochs
    if done >= epochs or is_over(recipe.schedule.early_stopping, run.metrics()):
        return False
    if any(not _is_of_the_end(key, recipe) for key in changes):
        raise RunError(
            f"The run in {run.path} is finished after {done} epochs. Its learning rate fell along "
            f"a cosine that ends with the run, so with schedule.epochs={epochs} all its epochs "
            f"would have been others. {_new_run(run, recipe, epochs - done)}"
        )
    return True


def _new_run(run: RunDirectory, recipe: Recipe, epochs: int) -> str:
    """Says how to train further with the weights of a finished run."""
    if not recipe.network.takes_weights:
        return f"{INSTEAD}."
    weights = run.last_model.absolute()
    command = ["keras-convnext", "train", str(run.recipe_file), "--run-dir", f"{run.path}_more"]
    command += [f"init.weights={weights}", f"schedule.epochs={epochs}", "schedule.warmup_epochs=0"]
    return (
        f"Start a new run from its weights, with a schedule.learning_rate of your choice:\n"
        f"  {shlex.join(command)}"
    )


def _changes(run: RunDirectory, recipe: Recipe) -> dict[str, tuple[str, str]]:
    """Returns the keys that differ, with what they are in the run and what is asked for."""
    before, now = (
        _flat(one.model_dump(mode="json", exclude=set(MAY_CHANGE)))
        for one in (with_absolute_paths(run.recipe()), recipe)
    )
    shown = {key: (_shown(before, key), _shown(now, key)) for key in {**before, **now}}
    return {key: (ours, theirs) for key, (ours, theirs) in shown.items() if ours != theirs}


def _is_of_the_end(key: str, recipe: Recipe) -> bool:
    """Whether a key decides when a run ends, and nothing of what it learns before."""
    is_epochs = key == "schedule.epochs" and recipe.schedule.name == "step"
    return is_epochs or key.startswith("schedule.early_stopping")


def refuse_other_data(run: RunDirectory, plan: Plan, class_names: tuple[str, ...]) -> None:
    """Raises a `RunError` if the data set is no longer what the run was trained on."""
    if not any(run.checkpoints.glob("epoch_*")):
        return
    changes = changes_since(run, plan, class_names)
    if changes:
        raise RunError(
            "\n".join([f"The data set has changed since the run in {run.path} began:", *changes])
            + f"\nPut it back as it was, or begin anew. {INSTEAD}."
        )


def refuse_other_backend(run: RunDirectory, environment: dict[str, Any]) -> None:
    """Raises a `RunError` if the run was begun on another backend; other versions are told.

    Args:
        run: The run.
        environment: What `runtime.describe` says now.
    """
    before = run.read(run.environment_file)
    if before["backend"] != environment["backend"]:
        raise RunError(
            f"The run in {run.path} was begun on {before['backend']}, and Keras runs on "
            f"{environment['backend']} now; its figures would not go on as they began. Set "
            f"KERAS_BACKEND={before['backend']}. {INSTEAD}."
        )
    versions = [
        f"{package} {version} in the run, {environment['packages'].get(package)} now"
        for package, version in before["packages"].items()
        if version != environment["packages"].get(package)
    ]
    if versions:
        console.print(
            f"Other versions than the run was begun with, so its end may differ in its last bits: "
            f"{'; '.join(versions)}.",
            style="yellow",
            soft_wrap=True,
        )


def _flat(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the keys of a section and of those within it, dotted."""
    flat: dict[str, Any] = {}
    for key, value in section.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else None
        flat |= inner or {f"{prefix}{key}": value}
    return flat


def _shown(values: dict[str, Any], key: str) -> str:
    # A section that is null on one side has no keys on that side.
    return json.dumps(values[key], ensure_ascii=False) if key in values else "nothing"
