"""Converts numbers of any library, such as NumPy's, to Python's, which a config can hold."""

import operator
from collections.abc import Iterable
from typing import Any


def integer(name: str, value: Any) -> int:
    """Returns a whole number of any library as Python's.

    Raises:
        ValueError: If it is not a whole number; `name` is the argument's.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"`{name}` must be a whole number. Received: {value!r}.") from None


def integers(name: str, values: Any) -> tuple[int, ...]:
    """Returns a sequence or an array of whole numbers as a tuple of Python's.

    Raises:
        ValueError: If it is not a sequence of whole numbers; `name` is the argument's.
    """
    if not isinstance(values, Iterable):
        raise ValueError(
            f"`{name}` must be a sequence of whole numbers, such as (3, 3, 9, 3). "
            f"Received: {values!r}."
        )
    return tuple(integer(name, value) for value in values)


def image_shape(values: Any) -> tuple[int | None, ...]:
    """Returns the shape of an image as a tuple of Python's numbers; a side may be `None`.

    Raises:
        ValueError: If it holds anything else.
    """
    if not isinstance(values, Iterable):
        raise ValueError(f"`input_shape` must be a sequence of sizes. Received: {values!r}.")
    return tuple(None if value is None else integer("input_shape", value) for value in values)


def real(name: str, value: Any) -> float:
    """Returns a number of any library as Python's.

    Raises:
        ValueError: If it is not a number; `name` is the argument's.
    """
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"`{name}` must be a number. Received: {value!r}.") from None
