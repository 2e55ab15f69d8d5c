"""The section `export`: what is written for serving."""

from pydantic import Field

from keras_convnext.recipe.sections.base import Section


class Export(Section):
    """What is exported when training has ended."""

    saved_model: bool = Field(True, description="Whether a TensorFlow SavedModel is written.")
