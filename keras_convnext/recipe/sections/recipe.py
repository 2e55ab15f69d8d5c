"""The recipe: its sections together, and the rules that hold between them."""

from collections.abc import Collection
from typing import Any

import yaml
from pydantic import Field, model_validator

from keras_convnext.catalog.architectures import Network
from keras_convnext.catalog.checkpoints import CHECKPOINTS
from keras_convnext.catalog.preprocessing import Preprocessing
from keras_convnext.recipe.sections.augment import Augment
from keras_convnext.recipe.sections.base import Section
from keras_convnext.recipe.sections.checkpoint import Checkpoint
from keras_convnext.recipe.sections.data import Data
from keras_convnext.recipe.sections.distribution import Distribution
from keras_convnext.recipe.sections.export import Export
from keras_convnext.recipe.sections.init import Init
from keras_convnext.recipe.sections.model import Model
from keras_convnext.recipe.sections.optimizer import Optimizer
from keras_convnext.recipe.sections.runtime import Runtime
from keras_convnext.recipe.sections.schedule import Schedule


class Recipe(Section):
    """Everything that decides a training run. See `load_recipe`."""

    name: str = Field(
        pattern=r"^\w[\w.-]*$",
        description="Name of the run's directory in runs/: letters, digits, _, . and -.",
    )
    task: str = Field(
        "classification", description="The kind of training, by its name in the registry of tasks."
    )
    runtime: Runtime = Runtime()
    distribution: Distribution = Distribution()
    model: Model
    init: Init = Init()
    data: Data
    augment: Augment = Augment()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule
    checkpoint: Checkpoint = Checkpoint()
    export: Export = Export()

    @model_validator(mode="after")
    def _check_image_size(self):
        least = self.model.smallest_image_size()
        if self.data.image_size < least:
            raise ValueError(
                f"data.image_size is {self.data.image_size}, but this network downsamples by "
                f"{least} and needs at least {least} pixels"
            )
        return self

    @model_validator(mode="after")
    def _check_accumulation_steps_are_equal(self):
        if self.data.batch_size % self.optimizer.gradient_accumulation_steps:
            raise ValueError(
                f"data.batch_size ({self.data.batch_size}) must be a multiple of "
                f"optimizer.gradient_accumulation_steps "
                f"({self.optimizer.gradient_accumulation_steps}), so that all steps of an update "
                f"have the same number of images"
            )
        return self

    @model_validator(mode="after")
    def _check_network_takes_sections(self):
        network = self.model.network
        if not network.takes_weights and self.init != Init():
            raise ValueError(f"there are no weights for {network.name}, so it takes no `init`")
        if not network.layer_decay and self.optimizer.layer_decay is not None:
            raise ValueError(f"{network.name} takes no `optimizer.layer_decay`")
        return self

    @model_validator(mode="after")
    def _check_monitored_metric(self):
        stopping = self.schedule.early_stopping
        if stopping is None:
            return self
        if stopping.monitor.startswith("val_") and self.data.validation_split is None:
            raise ValueError(
                f"schedule.early_stopping monitors {stopping.monitor}, but data.validation_split "
                f"is null; monitor accuracy or loss instead"
            )
        if stopping.monitor.startswith("val_ema_") and self.optimizer.ema_decay is None:
            raise ValueError(
                f"schedule.early_stopping monitors {stopping.monitor}, but optimizer.ema_decay is "
                f"null, so the run has no moving average"
            )
        return self

    @property
    def step_batch_size(self) -> int:
        """Number of images per step: those of an update, divided by its accumulation steps."""
        return self.data.batch_size // self.optimizer.gradient_accumulation_steps

    @property
    def network(self) -> Network:
        """The network's row in the table."""
        return self.model.network

    @property
    def preprocessing(self) -> Preprocessing:
        """What the weights that the run starts from, or else the network, expect of images."""
        checkpoint = CHECKPOINTS.get(str(self.init.weights))
        return self.network.preprocessing if checkpoint is None else checkpoint.preprocessing

    def flat(self, exclude: Collection[str] = ()) -> dict[str, Any]:
        """Returns the values of all keys, as for JSON, by their dotted names.

        Args:
            exclude: Sections to leave out. Defaults to none.
        """
        return _flat(self.model_dump(mode="json", exclude=set(exclude)))

    def to_yaml(self) -> str:
        """Returns the recipe as YAML with every default, as `load_recipe` reads it."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def _flat(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in section.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else None
        flat |= inner or {f"{prefix}{key}": value}
    return flat
