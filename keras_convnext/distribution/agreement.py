"""What the processes of a run do together, so that all of them stop where one cannot go on."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from keras_convnext.distribution.engine import Engine
from keras_convnext.errors import SharedError, UserError

Result = TypeVar("Result")


def in_main_process(engine: Engine, function: Callable[[], Result]) -> Result:
    """Calls a function in the process with rank 0, and returns its result in all.

    Args:
        engine: The processes.
        function: Function whose result can be pickled.

    Raises:
        UserError: What the function raised; in the other processes a `SharedError` with its text.
    """
    result, error = None, None
    if engine.is_main:
        result, error = _attempt(function)
    text, result = engine.broadcast((None if error is None else str(error), result))
    if error is not None:
        raise error
    if text is not None:
        raise SharedError(text)
    return result


def in_every_process(engine: Engine, function: Callable[[], Result]) -> Result:
    """Calls a function in every process, and returns its own result in each.

    Raises:
        UserError: In all processes if the function raised one in any of them; the text names the
            processes.
    """
    result, error = _attempt(function)
    texts = engine.gather(None if error is None else str(error))
    failed = [rank for rank, text in enumerate(texts) if text is not None]
    if not failed:
        return result
    if error is not None and engine.is_main:
        raise error
    message = f"In process {failed[0]} of {engine.processes}: {texts[failed[0]]}"
    raise (UserError if engine.is_main else SharedError)(message)


def check_same(engine: Engine, what: str, facts: Mapping[str, Any], advice: str) -> None:
    """Raises a `UserError` in all processes if facts differ from those of the process with rank 0.

    Args:
        engine: The processes.
        what: What the facts are about, such as `"recipe"`.
        facts: Values by their names, which can be pickled.
        advice: The sentence that says what to do.
    """
    first, *others = engine.gather(dict(facts))
    for rank, theirs in enumerate(others, start=1):
        lines = [
            f"  {name}: {first.get(name)} in process 0, {theirs.get(name)} in process {rank}"
            for name in {**first, **theirs}
            if first.get(name) != theirs.get(name)
        ]
        if lines:
            message = "\n".join([f"The processes do not have the same {what}:", *lines, advice])
            raise (UserError if engine.is_main else SharedError)(message)


def _attempt(function):
    """Returns the function's result and the `UserError` that it raised; one of them is `None`."""
    try:
        return function(), None
    except UserError as error:
        return None, error
