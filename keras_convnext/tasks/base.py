"""The interface of a task: everything that the workflows ask of one kind of training.

docs/internals/tasks.md says who calls which method, and how further tasks fit.
"""

from __future__ import annotations

import abc
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import keras

from keras_convnext.data.preprocessor import Preprocessor
from keras_convnext.data.sources.load import Split, load_split, load_splits
from keras_convnext.evaluation.report import learning_curves, write_figures
from keras_convnext.recipe import Data, Recipe
from keras_convnext.runs.directory import RunDirectory
from keras_convnext.runs.metrics import Monitor
from keras_convnext.runs.plan import Plan
from keras_convnext.training.optimizer import make_optimizer

if TYPE_CHECKING:
    import tensorflow as tf

    from keras_convnext.data.targets import Targets

VALIDATION_IMAGES = 64  # of a validation batch, on each device


@dataclasses.dataclass(frozen=True)
class ServingModel:
    """Everything that an exporter needs of a trained model.

    Attributes:
        network: Model from images `(batch, height, width, channels)` to one output, or to a list of
            as many as `outputs` names.
        preprocessor: Brings images to the network's size.
        outputs: The names of the network's outputs in the exported forms.
        metadata: Stored with an exported model; every value is JSON.
        add_file_outputs: Computes the outputs of the SavedModel's signature for image files from
            the named outputs and the metadata, in a TensorFlow graph. It must be a function at the
            top of an importable module, since a process with another backend may call it. Defaults
            to `None`, the named outputs alone.
    """

    network: keras.Model
    preprocessor: Preprocessor
    outputs: tuple[str, ...]
    metadata: dict[str, str]
    add_file_outputs: Callable[[dict[str, tf.Tensor], dict[str, Any]], dict] | None = None

    def named_outputs(self, images) -> dict[str, Any]:
        """Returns the network's outputs for a batch of images, by their names."""
        results = self.network(images, training=False)
        results = results if isinstance(results, list | tuple) else [results]
        return dict(zip(self.outputs, results, strict=True))


class Servable(Protocol):
    """A trained model that predicts and can be exported."""

    @property
    def preprocessor(self) -> Preprocessor:
        """Brings images to the model's size."""

    def serving_model(self) -> ServingModel:
        """Returns the model as exporters take it."""


class Summarized(Protocol):
    """The result of an evaluation."""

    def summary(self) -> dict[str, float]:
        """Returns the figures that fit on a line, as a dict for JSON."""


class Task(abc.ABC):
    """One kind of training.

    TensorFlow, whose `tf.data` feeds every backend, is imported when the first batch is asked for.

    Attributes:
        monitor: The metric whose best epoch is kept as `best.keras`.
    """

    monitor: Monitor = Monitor("loss", "min")

    @property
    def targets(self) -> Targets:
        """How the pipeline reads, batches and mixes targets."""
        from keras_convnext.data.targets import Targets

        return Targets()

    def check(self, recipe: Recipe) -> None:  # noqa: B027 (a task may support every recipe)
        """Raises a `RecipeError` if the recipe asks for something that the task does not have."""

    def load_splits(self, data: Data) -> tuple[Split, Split | None]:
        """Returns the training images and the validation images, or `None` for the latter.

        Raises:
            DataError: If there is anything wrong with the data.
        """
        return load_splits(data)

    def load_split(
        self,
        data: str | Path,
        split: str | None,
        on_bad_image: str,
        predictor: Any,
        apply_orientation: bool,
    ) -> Split:
        """Returns other labelled images to evaluate a run of this task on.

        Args:
            data: A folder, or `tfds:NAME`.
            split: Part of a data set of TensorFlow Datasets.
            on_bad_image: `"error"` or `"skip"`.
            predictor: The run's predictor.
            apply_orientation: Whether images are turned as their EXIF says.
        """
        return load_split(data, split, on_bad_image, apply_orientation=apply_orientation)

    def training_batches(
        self,
        split: Split,
        recipe: Recipe,
        plan: Plan,
        initial_epoch: int,
        shard_index: int = 0,
        num_shards: int = 1,
    ) -> tf.data.Dataset:
        """Returns the batches of all epochs from `initial_epoch` on, as `model.fit` takes them.

        Args:
            split: The training images.
            recipe: The recipe.
            plan: The length of the run.
            initial_epoch: The number of epochs already trained.
            shard_index: The part of every step to return, from 0. Defaults to 0.
            num_shards: The number of parts of every step. Defaults to 1.
        """
        from keras_convnext.data.pipeline import training_dataset

        return training_dataset(
            split,
            recipe.data,
            recipe.augment,
            plan.epochs,
            recipe.runtime.seed,
            start=initial_epoch * plan.steps_per_epoch,
            step_batch_size=recipe.step_batch_size,
            shard_index=shard_index,
            num_shards=num_shards,
            preprocessing=recipe.preprocessing,
            targets=self.targets,
        )

    def validation_batches(
        self, split: Split, recipe: Recipe, plan: Plan, shard_index: int = 0, num_shards: int = 1
    ) -> tf.data.Dataset:
        """Returns the validation batches, as `model.evaluate` takes them.

        Args:
            split: The validation images.
            recipe: The recipe.
            plan: The devices of the run; each has `VALIDATION_IMAGES` of a batch.
            shard_index: The part of every batch to return, from 0. Defaults to 0.
            num_shards: The number of parts of every batch. Defaults to 1.
        """
        from keras_convnext.data.pipeline import evaluation_dataset

        return evaluation_dataset(
            split,
            recipe.data.image_size,
            recipe.data.crop_fraction,
            batch_size=VALIDATION_IMAGES * plan.devices,
            label_smoothing=recipe.augment.smoothing_in_targets,
            interpolation=recipe.preprocessing.interpolation,
            warp_from=recipe.preprocessing.warp_from,
            targets=self.targets,
            shard_index=shard_index,
            num_shards=num_shards,
        )

    @abc.abstractmethod
    def build_model(self, recipe: Recipe, split: Split) -> keras.Model:
        """Returns the new network with its head, from images `(batch, size, size, 3)`.

        Args:
            recipe: The recipe.
            split: The training images, whose classes may determine the head's size.
        """

    @abc.abstractmethod
    def loss(self, recipe: Recipe) -> keras.losses.Loss | None:
        """Returns the loss, or `None` if the model computes it in `compute_loss`."""

    def metrics(self, recipe: Recipe) -> list[keras.metrics.Metric]:
        """Returns the metrics; by default none but the loss."""
        return []

    def compile_model(self, model: keras.Model, recipe: Recipe, plan: Plan) -> None:
        """Compiles a model with the recipe's optimizer and the task's loss and metrics."""
        optimizer = make_optimizer(recipe, plan)
        model.compile(optimizer, self.loss(recipe), metrics=self.metrics(recipe))

    @abc.abstractmethod
    def load_predictor(self, run: RunDirectory, checkpoint: str) -> Servable:
        """Returns the predictor of a run.

        Args:
            run: The run.
            checkpoint: `"last"`, `"best"` or `"best_ema"`.

        Raises:
            RunError: If the run has no such checkpoint, or it cannot be loaded.
        """

    @abc.abstractmethod
    def evaluate(self, predictor: Any, split: Split) -> Summarized:
        """Returns the evaluation of a predictor on every image of a split.

        Args:
            predictor: What `load_predictor` returned.
            split: The images and their labels.
        """

    def write_report(
        self,
        directory: Path,
        metrics: list[dict[str, float]],
        evaluation: Any,
        split: Split | None,
    ) -> None:
        """Writes the report of a trained run; by default the curves and `evaluation.json`.

        Args:
            directory: A new or empty directory, which gets its name once everything is written.
            metrics: The metrics of every epoch.
            evaluation: The evaluation on the validation images, or `None` if there are none.
            split: The validation images, or `None`.

        Raises:
            WriteError: If it cannot be written; nothing is left then.
        """
        names = dict.fromkeys(("loss", self.monitor.metric))
        figures = {"curves": learning_curves(metrics, tuple(names))}
        write_figures(directory, figures, None if evaluation is None else evaluation.summary())


def as_metadata(**values: Any) -> dict[str, str]:
    """Returns the metadata of a `ServingModel`, with every value as JSON."""
    return {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}
