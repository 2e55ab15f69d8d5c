"""The section `optimizer`: the update rule, weight decay and the moving average."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from keras_convnext.recipe.sections.base import Positive, Section


class Optimizer(Section):
    """The update rule, and what is decayed, clipped and averaged."""

    name: Literal["adamw", "lamb", "sgd"] = Field("adamw", description="The optimizer.")
    weight_decay: float = Field(
        0.05,
        ge=0,
        description="Weight decay: decoupled with adamw, added to the update with lamb and to the "
        "gradient with sgd.",
    )
    decay_vectors: bool = Field(
        False,
        description="Whether biases, LayerNorm and layer scale are decayed as the kernels are.",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum, with sgd.")
    beta_1: float = Field(
        0.9, ge=0, lt=1, description="Decay of the gradient's moving average, with adamw and lamb."
    )
    beta_2: float = Field(
        0.999,
        ge=0,
        lt=1,
        description="Decay of the squared gradient's moving average, with adamw and lamb.",
    )
    epsilon: Positive = Field(
        1e-8, description="Added to the denominator, with adamw and lamb; by default 1e-6 for lamb."
    )
    global_clipnorm: Positive | None = Field(
        None, description="Maximum norm of all gradients together; null for no clipping."
    )
    gradient_accumulation_steps: int = Field(
        1,
        ge=1,
        description="Number of steps over which the gradients of an update are accumulated, each "
        "with batch_size / gradient_accumulation_steps images.",
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="Factor on the learning rate from each group of layers to the one before it; "
        "null for the same learning rate everywhere.",
    )
    layer_decay_rule: Literal["group", "block", "stage"] = Field(
        "group", description="The groups of layer_decay: three blocks, one block, or a stage."
    )
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="Decay of the exponential moving average (EMA) of the weights, 0.9999 in the "
        "paper; null for no average.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_from_the_name(cls, settings):
        if isinstance(settings, dict) and settings.get("name") == "lamb":
            return {"epsilon": 1e-6, **settings}
        return settings
