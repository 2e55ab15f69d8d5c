"""The sources of a trained model: a run, a published checkpoint or a `.keras` file."""

import dataclasses
from pathlib import Path
from typing import Any

from keras_convnext.catalog import imagenet
from keras_convnext.catalog.checkpoints import CHECKPOINTS
from keras_convnext.data.sources.load import Split, load_split
from keras_convnext.errors import DataError, UserError
from keras_convnext.files import expanded
from keras_convnext.runs.data_check import check_same_images
from keras_convnext.runs.directory import STATES, RunDirectory
from keras_convnext.tasks.base import Servable, Task
from keras_convnext.tasks.model_file import load_model
from keras_convnext.tasks.registry import get_task


@dataclasses.dataclass(frozen=True)
class RunSource:
    """The directory of a run."""

    run: RunDirectory

    @property
    def task(self) -> Task:
        return get_task(self.run.recipe().task)

    def predictor(self, checkpoint: str) -> Servable:
        return self.task.load_predictor(self.run, checkpoint)

    def split(self, predictor: Any, data, split: str | None, on_bad_image: str):
        """Returns the predictor and other labelled images that it may be evaluated on."""
        turns = predictor.preprocessor.apply_orientation
        return predictor, self.task.load_split(data, split, on_bad_image, predictor, turns)

    def own_split(self, part: str, on_bad_image: str | None = None) -> Split:
        """Returns the images that the run was trained or validated with.

        Args:
            part: `"training"`, or `"validation"` if the run has validation images.
            on_bad_image: `"error"` or `"skip"`. Defaults to `None`, the recipe's choice.

        Raises:
            DataError: If their number or their classes have changed since training.
        """
        data = self.run.recipe().data
        if on_bad_image is not None:
            data = data.model_copy(update={"on_bad_image": on_bad_image})
        training, validation = self.task.load_splits(data)
        split = training if validation is None or part == "training" else validation
        skipped = len(getattr(split, "left_out", ()))
        check_same_images(self.run, part, split.size, skipped, training.class_names)
        return split


@dataclasses.dataclass(frozen=True)
class PublishedSource:
    """A published checkpoint, which is a classifier of ImageNet."""

    name: str

    @property
    def task(self) -> Task:
        return get_task("classification")

    def predictor(self, checkpoint: str) -> Servable:
        # Imported here, since the predictor's module imports this one.
        from keras_convnext.tasks.classification.predictor import Predictor

        return Predictor.of_published(self.name)

    def split(self, predictor: Any, data, split: str | None, on_bad_image: str):
        synsets = imagenet.synsets(len(predictor.class_names))
        # The published accuracies were measured without applying the EXIF orientation.
        return predictor, load_split(data, split, on_bad_image, synsets, apply_orientation=False)


@dataclasses.dataclass(frozen=True)
class FileSource:
    """A `.keras` file of a classifier, whose class names are unknown."""

    path: Path

    @property
    def task(self) -> Task:
        return get_task("classification")

    def predictor(self, checkpoint: str) -> Servable:
        from keras_convnext.tasks.classification.predictor import Predictor

        return Predictor.of_model(load_model(self.path))

    def split(self, predictor: Any, data, split: str | None, on_bad_image: str):
        turns = predictor.preprocessor.apply_orientation
        images = load_split(data, split, on_bad_image, apply_orientation=turns)
        if len(images.class_names) != len(predictor.class_names):
            raise DataError(
                f"{self.path} tells {len(predictor.class_names)} classes apart, but {data} holds "
                f"{len(images.class_names)}. The numbers must be equal. Classes are matched by "
                f"their order, which for folders is the alphabetical order of their names."
            )
        return dataclasses.replace(predictor, class_names=images.class_names), images


Source = RunSource | PublishedSource | FileSource


def resolve(source: str | Path) -> Source:
    """Returns the kind of source that a name or a path is; a `FileSource` need not exist."""
    if str(source) in CHECKPOINTS:
        return PublishedSource(str(source))
    if RunDirectory.is_run(source):
        return RunSource(RunDirectory(source))
    return FileSource(expanded(source))


def check_checkpoint(checkpoint: str) -> None:
    """Raises a `UserError` if a run keeps no checkpoint of that name."""
    if checkpoint not in STATES:
        raise UserError(
            f"`checkpoint` must be one of {', '.join(STATES)}. Received: {checkpoint!r}."
        )
