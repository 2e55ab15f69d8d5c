"""The section `schedule`: the length of a run and its learning rate."""

from typing import Literal

from pydantic import Field, model_validator

from keras_convnext.recipe.sections.base import Fraction, Positive, Section


class EarlyStopping(Section):
    """Ends a run before its last epoch, once a metric has stopped improving.

    `early_stopping: 5` is short for `early_stopping: {patience: 5}`.
    """

    SHORT_KEY = "patience"

    patience: int = Field(
        ge=1, description="Number of epochs without improvement after which the run ends."
    )
    monitor: Literal[
        "val_accuracy", "val_loss", "val_ema_accuracy", "val_ema_loss", "accuracy", "loss"
    ] = Field(
        "val_accuracy", description="The metric; val_ema_ needs optimizer.ema_decay to be set."
    )
    min_delta: float = Field(
        0.0, ge=0, description="Smallest change of the metric that counts as an improvement."
    )


class Schedule(Section):
    """The learning rate per update: linear warm-up from 0, then a cosine or steps."""

    name: Literal["cosine", "step"] = Field(
        "cosine", description="The learning rate after the warm-up."
    )
    epochs: int = Field(300, ge=1, description="Number of passes over the training images.")
    learning_rate: Positive = Field(
        4e-3, description="Peak learning rate; it is not scaled by the batch size."
    )
    final_learning_rate: float = Field(
        1e-6, ge=0, description="Learning rate at the end of the cosine."
    )
    warmup_epochs: float = Field(20, ge=0, description="Length of the warm-up, in epochs.")
    step_epochs: int = Field(30, ge=1, description="Number of epochs between steps, with step.")
    gamma: Fraction = Field(0.1, description="Factor on the learning rate at each step, with step.")
    early_stopping: EarlyStopping | None = Field(
        None, description="When to end the run before its last epoch; null for never."
    )

    @model_validator(mode="after")
    def _check_warmup_ends(self):
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"`warmup_epochs` ({self.warmup_epochs:g}) must be fewer than `epochs` "
                f"({self.epochs}), or the whole run is warm-up"
            )
        return self
