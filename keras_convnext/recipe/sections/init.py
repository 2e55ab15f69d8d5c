"""The section `init`: the weights that training starts from."""

from typing import Literal

from pydantic import Field

from keras_convnext.recipe.sections.base import Section


class Init(Section):
    """The initial weights and the weights to train, for fine-tuning."""

    weights: str | None = Field(
        None,
        description="Name of a published checkpoint, a file such as runs/NAME/last.keras, or a "
        "URL; null for random weights. If the number of classes differs, the classifier keeps its "
        "random weights.",
    )
    train: Literal["all", "head"] = Field(
        "all", description="The weights to train: all of them, or only the classifier's."
    )
