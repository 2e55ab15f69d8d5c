"""The section `model`: the network's architecture."""

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from keras_convnext.catalog.architectures import (
    NETWORKS,
    Network,
    custom_convnext,
    get_network,
)
from keras_convnext.recipe.sections.base import Positive, Section

Stages = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]


class Model(Section):
    """The network: a model of the paper by name, or any other size by `depths` and `dims`.

    A named model sets the defaults of `patch_size`, `stem_norm` and `layer_scale_init_value`.
    `resnet50`, the paper's baseline, is the one of `keras.applications`. It takes none of the
    other keys.
    """

    name: str | None = Field(
        None, description="Name of a model, as listed by `keras-convnext models`, or resnet50."
    )
    depths: Stages | None = Field(
        None, description="Number of blocks in each stage, for a network without a name."
    )
    dims: Stages | None = Field(
        None, description="Number of channels in each stage, for a network without a name."
    )
    patch_size: int = Field(
        4, ge=1, description="Kernel size and stride of the stem's convolution, in pixels."
    )
    stem_norm: bool = Field(
        True, description="Whether the stem's convolution is followed by LayerNorm."
    )
    kernel_size: int = Field(
        7, ge=1, description="Kernel size of the depthwise convolutions, in pixels; odd."
    )
    drop_path_rate: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Stochastic depth rate of the last block; it rises linearly from 0 at the "
        "first block.",
    )
    layer_scale_init_value: Positive | None = Field(
        1e-6, description="Initial value of layer scale; null for no layer scale."
    )
    head_init_scale: Positive = Field(
        1.0, description="Factor by which the head's initial weights are multiplied."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_from_the_name(cls, settings):
        row = NETWORKS.get(str(settings.get("name"))) if isinstance(settings, dict) else None
        if row is None:
            return settings
        own = {key: row.arguments[key] for key in row.settings if key in row.arguments}
        return {**own, **settings}

    @field_validator("name")
    @classmethod
    def _check_name(cls, name):
        if name is not None:
            get_network(name)
        return name

    @field_validator("kernel_size")
    @classmethod
    def _check_odd(cls, size):
        if size % 2 == 0:
            raise ValueError("the kernel size must be odd, so that kernels are centred on a pixel")
        return size

    @model_validator(mode="after")
    def _check_one_architecture(self):
        sizes = (self.depths, self.dims)
        if (self.name is None) == (sizes == (None, None)):
            raise ValueError("give either `name`, or `depths` and `dims`")
        if self.name is None and len(self.depths or ()) != len(self.dims or ()):
            raise ValueError("`depths` and `dims` must both be given and be equally long")
        return self

    @model_validator(mode="after")
    def _check_keys(self):
        allowed = {"name", "depths", "dims", *self.network.settings}
        changed = [
            key
            for key, field in type(self).model_fields.items()
            if key not in allowed and getattr(self, key) != field.default
        ]
        if changed:
            raise ValueError(f"{self.name} does not take `{'`, `'.join(changed)}`")
        return self

    @property
    def network(self) -> Network:
        """The network's row in the table; a network without a name gets a row of its own."""
        if self.name is not None:
            return get_network(self.name)
        return custom_convnext(self.depths or (), self.dims or ())

    def smallest_image_size(self) -> int:
        """Returns the height and width of the smallest image the network accepts, in pixels."""
        return self.network.smallest_image_size(self.patch_size)
