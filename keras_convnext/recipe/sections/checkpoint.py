"""The section `checkpoint`: the files from which a stopped run is resumed."""

from pydantic import Field

from keras_convnext.recipe.sections.base import Section


class Checkpoint(Section):
    """The checkpoints a run keeps while it trains; a stopped run resumes from the newest."""

    keep: int = Field(
        3, ge=1, description="Number of checkpoints to keep, the newest; one is written per epoch."
    )
