"""Checks that a run's data set is still the one that it was trained on."""

from collections.abc import Sequence

from keras_convnext.errors import DataError
from keras_convnext.runs.directory import RunDirectory
from keras_convnext.runs.plan import Plan


def changes_since(run: RunDirectory, plan: Plan, class_names: tuple[str, ...]) -> list[str]:
    """Returns a line for every change of the data set since the run was started."""
    before = run.read(run.plan_file)
    now = {"training_images": plan.training_images, "validation_images": plan.validation_images}
    changes = [
        f"  {key.replace('_', ' ')}: {before.get(key)} in the run, {value} now"
        for key, value in now.items()
        if before.get(key) != value
    ]
    return changes + _class_changes(run.class_names(), class_names)


def check_same_images(
    run: RunDirectory, part: str, images: int, skipped: int, class_names: tuple[str, ...]
) -> None:
    """Raises a `DataError` if the size or the classes of a split have changed since training.

    Args:
        run: The run.
        part: `"training"` or `"validation"`.
        images: The number of images now.
        skipped: Bad images that are skipped now, and may have been counted in training.
        class_names: The classes of the training images now.
    """
    before = run.read(run.plan_file).get(f"{part}_images", images)
    changes = _class_changes(run.class_names(), class_names)
    if not images <= before <= images + skipped:
        changes = [f"  {before} images in the run, {images} now", *changes]
    if changes:
        place = run.recipe().data.path
        where = f" in {place}" if place is not None else ""
        raise DataError(
            "\n".join([f"The {part} images{where} are not those that {run.path} had:", *changes])
            + "\nRestore them, or choose the images: pass `data` (--data on the command "
            "line), a folder with one folder of images a class."
        )


def _class_changes(before: Sequence[str], now: Sequence[str]) -> list[str]:
    parts = {"no longer there": set(before) - set(now), "new": set(now) - set(before)}
    changes = [
        f"  {word}: class {', '.join(sorted(names))}" for word, names in parts.items() if names
    ]
    if not changes and tuple(before) != tuple(now):
        changes = ["  the classes come in another order"]
    return changes
