"""The section `distribution`: the devices and processes that a run is spread over."""

from typing import Literal

from pydantic import Field, model_validator

from keras_convnext.recipe.sections.base import Section


class Distribution(Section):
    """How a run is spread over devices; its results do not depend on it, but for rounding.

    `distribution: data_parallel` is short for `distribution: {name: data_parallel}`.
    """

    SHORT_KEY = "name"

    name: Literal["none", "auto", "data_parallel", "model_parallel"] = Field(
        "auto",
        description="none: one device. data_parallel: each device has an equal part of the images "
        "of a step. model_parallel (JAX): the wide kernels of the blocks are split over devices as "
        "well. auto: data_parallel where there are several devices or processes, none otherwise.",
    )
    devices: int | None = Field(
        None,
        ge=1,
        description="Number of devices, over all hosts; null for all there are. Where there are "
        "only CPUs, TensorFlow and JAX divide them into this many.",
    )
    model_shards: int = Field(
        2, ge=2, description="Number of devices that share a kernel, with model_parallel."
    )

    @model_validator(mode="after")
    def _check_devices(self):
        if self.name == "none" and (self.devices or 1) > 1:
            raise ValueError(
                f"`devices` is {self.devices}, but `name` is none, which uses one; set `name` to "
                f"data_parallel"
            )
        if self.name == "model_parallel" and (self.devices or 0) % self.model_shards:
            raise ValueError(
                f"`devices` ({self.devices}) must be a multiple of `model_shards` "
                f"({self.model_shards}), with model_parallel"
            )
        return self
