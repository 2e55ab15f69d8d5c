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
        omitted_images: Images that an epoch leaves out, since they do not fill its last update.
        devices: Devices that train.
        device_batch_size: Images that each device has in a step.
    """

    training_images: int
    validation_images: int
    classes: int
    epochs: int
    updates_per_epoch: int
    steps_per_epoch: int
    total_updates: int
    warmup_updates: int
    omitted_images: int
    devices: int
    device_batch_size: int

    def write(self, path: Path) -> None:
        files.write_text(path, json.dumps(dataclasses.asdict(self), indent=2) + "\n")


def make_plan(
    recipe: Recipe,
    training_images: int,
    validation_images: int,
    classes: int,
    devices: int = 1,
    data_shards: int | None = None,
) -> Plan:
    """Returns the plan of a recipe for a data set.

    Args:
        recipe: The recipe.
        training_images: Images in the training split.
        validation_images: Images in the validation split.
        classes: Classes of the data set; 0 if it has none.
        devices: Devices that train. Defaults to 1.
        data_shards: Parts into which the images of a step are divided. Defaults to `devices`, one
            part for each.

    Raises:
        DataError: If the training images do not fill one batch, or the images of a step cannot be
            divided equally among the devices.
    """
    data_shards = devices if data_shards is None else data_shards
    _check_division(recipe, data_shards)
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
        omitted_images=training_images % batch_size,
        devices=devices,
        device_batch_size=recipe.step_batch_size // data_shards,
    )


def _check_division(recipe: Recipe, data_shards: int) -> None:
    if recipe.step_batch_size % data_shards:
        steps = recipe.optimizer.gradient_accumulation_steps
        raise DataError(
            f"A step of {recipe.step_batch_size} images cannot be divided equally among "
            f"{data_shards} devices. Pass a data.batch_size that is a multiple of "
            f"{data_shards * steps} (the devices times optimizer.gradient_accumulation_steps), or "
            f"another number of devices with distribution.devices."
        )
