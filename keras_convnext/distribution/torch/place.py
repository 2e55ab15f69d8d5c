"""The place of a call among the replicas of a step, for PyTorch."""

import contextlib
from collections.abc import Iterator

from keras_convnext.distribution.replicas import Place

_place: Place | None = None


def current_place() -> Place | None:
    """Returns the place of the current call; `None` if it has all images of the step."""
    return _place


@contextlib.contextmanager
def within(place: Place) -> Iterator[None]:
    """Makes calls of layers within the context calls of that place."""
    global _place
    before, _place = _place, place
    try:
        yield
    finally:
        _place = before
