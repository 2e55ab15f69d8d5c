"""Whether a run that was stopped may be gone on with: it must be the run that was asked for."""

import json
from typing import Any

from keras_convnext.console import console
from keras_convnext.errors import RunError
from keras_convnext.recipe import Recipe
from keras_convnext.training.plan import Plan
from keras_convnext.training.run_directory import RunDirectory

# Sections that decide what is kept and written, and not what is learned.
MAY_CHANGE = ("export", "checkpoint")
INSTEAD = "Choose another directory with --run-dir, or begin anew with --overwrite"


def refuse_other_recipe(run: RunDirectory, recipe: Recipe) -> None:
    """Raises a `RunError` if an unfinished run is of another recipe, with the keys that differ."""
    try:
        before = _flat(run.recipe().model_dump(mode="json", exclude=set(MAY_CHANGE)))
    except RunError as error:
        raise RunError(f"{error}\nThe run cannot be gone on with. {INSTEAD}.") from error
    now = _flat(recipe.model_dump(mode="json", exclude=set(MAY_CHANGE)))
    changes = [
        f"  {key}: {_shown(before, key)} in the run, {_shown(now, key)} now"
        for key in {**before, **now}
        if _shown(before, key) != _shown(now, key)
    ]
    if changes:
        raise RunError(
            "\n".join([f"There is an unfinished run of another recipe in {run.path}:", *changes])
            + f"\n{INSTEAD}, or give the recipe that the run was begun with."
        )


def refuse_other_data(run: RunDirectory, plan: Plan, class_names: tuple[str, ...]) -> None:
    """Raises a `RunError` if the data set is no longer what the run was trained on."""
    if not any(run.checkpoints.glob("epoch_*")):
        return
    before = run.read(run.plan_file)
    now = {"training_images": plan.training_images, "validation_images": plan.validation_images}
    changes = [
        f"  {key.replace('_', ' ')}: {before.get(key)} in the run, {value} now"
        for key, value in now.items()
        if before.get(key) != value
    ]
    changes += _class_changes(run.class_names(), class_names)
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


def _class_changes(before: tuple[str, ...], now: tuple[str, ...]) -> list[str]:
    parts = {"no longer there": set(before) - set(now), "new": set(now) - set(before)}
    changes = [
        f"  {word}: class {', '.join(sorted(names))}" for word, names in parts.items() if names
    ]
    if not changes and before != now:
        changes = ["  the classes come in another order"]
    return changes


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
