"""The base class of every section, and the types that several sections use."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from keras_convnext.recipe.scalars import kinds_of, typed

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # NumPy's limit


class Section(BaseModel):
    """A group of keys. Unknown keys are errors, and values cannot be changed after loading.

    Attributes:
        SHORT_KEY: The key whose value may stand for the whole section; `None` for no such key.
    """

    SHORT_KEY: ClassVar[str | None] = None

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, settings):
        is_value = isinstance(settings, int | str)
        return {cls.SHORT_KEY: settings} if is_value and cls.SHORT_KEY else settings

    @field_validator("*", mode="before")
    @classmethod
    def _parse_by_field_type(cls, value, info):
        return typed(value, kinds_of(cls.model_fields[info.field_name].annotation))
