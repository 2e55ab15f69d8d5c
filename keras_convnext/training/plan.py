"""A recipe's epochs in steps: what a run will do, worked out before it starts."""

import dataclasses
import json
from pathlib import Path

from keras_convnext.errors import DataError
from keras_convnext.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long a run is.

    Attributes:
        training_images: Images in the training split.
        validation_images: Images in the validation split.
        classes: Classes of the data set.
        epochs: Passes over the training images.
        steps_per_epoch: Updates in an epoch; images that do not fill a batch are left out.
        total_steps: Updates in the run.
        warmup_steps: Updates of the linear warm-up.
    """

    training_images: int
    validation_images: int
    classes: int
    epochs: int
    steps_per_epoch: int
    total_steps: int
    warmup_steps: int

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")


def make_plan(recipe: Recipe, training_images: int, validation_images: int, classes: int) -> Plan:
    """Returns the plan of a recipe for a data set.

    Raises:
        DataError: If the training images do not fill one batch.
    """
    batch_size = recipe.data.batch_size
    steps_per_epoch = training_images // batch_size
    if steps_per_epoch == 0:
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
        steps_per_epoch=steps_per_epoch,
        total_steps=schedule.epochs * steps_per_epoch,
        warmup_steps=int(schedule.warmup_epochs * steps_per_epoch),
    )
