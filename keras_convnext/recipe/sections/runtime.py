"""The section `runtime`: backend, precision and reproducibility."""

from typing import Literal

from pydantic import Field

from keras_convnext.recipe.sections.base import Section, Seed


class Runtime(Section):
    """The backend, the precision and the seed of a run."""

    backend: Literal["tensorflow", "jax", "torch"] | None = Field(
        None, description="Keras backend; null takes KERAS_BACKEND or Keras's own setting."
    )
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = Field(
        "float32", description="Dtype policy of the network."
    )
    seed: Seed = Field(
        0, description="Seed of the initial weights, of the image order and of the augmentation."
    )
    deterministic: bool = Field(
        False,
        description="Use only kernels that return the same bits on every run; slower on GPUs.",
    )
