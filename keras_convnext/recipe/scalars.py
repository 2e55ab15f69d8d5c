"""What the text of a value means, told by the kind of field that it is for.

YAML 1.1 guesses a type from the text alone: `1_0` is ten, `010` eight, `12:30` 750, `no` false. A
recipe knows the type of every field, so its values stay text until they reach their field: a text
field takes them as they are, and a number field takes decimal numbers only.
"""

import re
import types
from typing import Any, Literal, Union, get_args, get_origin

# Digits are spelled out, since `\d` takes those of every script. A leading zero means octal to some
# readers and nothing to others.
DECIMAL = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
INTEGER = re.compile(r"[-+]?[0-9]+")
WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def kinds_of(annotation: Any) -> set[type]:
    """Returns the types a field's value or, of a tuple, its elements may have.

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
    """Returns a field's value with what is text read as a number, or as true or false.

    Args:
        value: From YAML or from Python; lists are read element by element.
        kinds: The types the field takes; see `kinds_of`.

    Raises:
        ValueError: If the text does not stand for what the field takes, or a boolean is given to
            another field.
    """
    if isinstance(value, list | tuple):
        return [typed(one, kinds) for one in value]
    if isinstance(value, bool) and bool not in kinds:
        raise ValueError("expected a value, not true or false")  # Python's 1 and 0
    if not isinstance(value, str) or str in kinds:
        return value
    return _number(value) if kinds & {int, float} else _switch(value) if bool in kinds else value


def reads_as_true(value: Any) -> bool:
    """Whether a value that has not reached its field yet will be read as true."""
    return WORDS.get(str(value).lower(), False)


def _switch(text):
    if text.lower() not in WORDS:
        raise ValueError("expected true or false")
    return WORDS[text.lower()]


def _number(text):
    if not DECIMAL.fullmatch(text):
        raise ValueError("expected a decimal number, such as 10, 0.5 or 4e-3")
    return int(text) if INTEGER.fullmatch(text) else float(text)
