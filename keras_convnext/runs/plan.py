"""The length of a run in epochs, updates and steps, computed before it starts."""

import dataclasses
import json
from pathlib import Path

from keras_convnext import files
from keras_convnext.errors import DataError
from keras_convnext.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Plan:
    """The length of a run.

    Attributes:
        training_images: Images in the training split.
        validation_images: Images in the validation split.
        classes: Classes of the data set; 0 if it has none.
        epochs: Passes over the training images.
        updates_per_epoch: Updates in an epoch; images that do not fill a batch are omitted.
        steps_per_epoch: Steps in an epoch; with gradient accumulation several form one update.
        total_updates: Updates in the run.
        warmup_updates: Updates of the linear warm-up.
    """

    training_images: int
    validation_images: int
    classes: int
    epochs: int
    updates_per_epoch: int
    steps_per_epoch: int
    total_updates: int
    warmup_updates: int

    def write(self, path: Path) -> None:
        files.write_text(path, json.dumps(dataclasses.asdict(self), indent=2) + "\n")


def make_plan(recipe: Recipe, training_images: int, validation_images: int, classes: int) -> Plan:
    """Returns the plan of a recipe for a data set.

    Raises:
        DataError: If the training images do not fill one batch.
    """
    batch_size = recipe.data.batch_size
    updates_per_epoch = training_images // batch_size
    if updates_per_epoch == 0:
        raise DataError(
            f"There are {training_images} training images, fewer than one batch of {batch_size}. "
            f"Add images, or pass a smaller data.batch_size."
        )
    schedule = recipe.schedule
    return Plan(
        training_images=training_images,
        validation_images=validation_images,
        classes=classes,
        epochs=schedule.epochs,
        updates_per_epoch=updates_per_epoch,
        steps_per_epoch=updates_per_epoch * recipe.optimizer.gradient_accumulation_steps,
        total_updates=schedule.epochs * updates_per_epoch,
        warmup_updates=int(schedule.warmup_epochs * updates_per_epoch),
    )
