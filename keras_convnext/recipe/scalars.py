"""Parses a value by the type of its field.

YAML 1.1 infers a type from the text alone: `1_0` is 10, `010` is 8, `12:30` is 750 and `no` is
false. A recipe knows the type of every field, so values stay text until they reach their field. A
text field accepts any text literally, and a number field accepts only decimal numbers.
"""

import re
import types
from typing import Any, Literal, Union, get_args, get_origin

# [0-9] instead of `\d`, which matches the digits of every script. A leading zero is refused, since
# some parsers read it as octal.
DECIMAL = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
INTEGER = re.compile(r"[-+]?[0-9]+")
WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def kinds_of(annotation: Any) -> set[type]:
    """Returns the types of a field's value or, for a tuple, of its elements.

    Example:
        >>> kinds_of(tuple[float, float] | None) == {float, type(None)}
        True
    """
    if get_origin(annotation) is Literal:
        return {type(value) for value in get_args(annotation)}
    if hasattr(annotation, "__metadata__"):  # Annotated
        return kinds_of(annotation.__origin__)
    if get_origin(annotation) in (Union, types.UnionType, tuple):
        inner = [one for one in get_args(annotation) if one is not Ellipsis]
        return set().union(*map(kinds_of, inner))
    return {annotation}


def typed(value: Any, kinds: set[type]) -> Any:
    """Returns a field's value, parsed as a number or a boolean if it is text.

    Args:
        value: From YAML or from Python; lists are parsed element by element.
        kinds: The types that the field accepts; see `kinds_of`.

    Raises:
        ValueError: If the text cannot be parsed, or if the value is a boolean and the field is not.
    """
    if isinstance(value, list | tuple):
        return [typed(one, kinds) for one in value]
    if isinstance(value, bool) and bool not in kinds:
        # In Python True is also the number 1.
        raise ValueError("expected a value, not true or false")
    if not isinstance(value, str) or str in kinds:
        return value
    return _number(value) if kinds & {int, float} else _switch(value) if bool in kinds else value


def reads_as_true(value: Any) -> bool:
    """Returns whether a value that is not parsed yet means true."""
    return WORDS.get(str(value).lower(), False)


def _switch(text):
    if text.lower() not in WORDS:
        raise ValueError("expected true or false")
    return WORDS[text.lower()]


def _number(text):
    if not DECIMAL.fullmatch(text):
        raise ValueError("expected a decimal number, such as 10, 0.5 or 4e-3")
    return int(text) if INTEGER.fullmatch(text) else float(text)
