"""The place of a call among the replicas of a step, for JAX.

A call has the images of all devices and processes, as one array that is spread over them. Where
each process reads its own shard, the array is one shard after another, and not in the step's order.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from keras_convnext.distribution.replicas import Place

_shards: ContextVar[int] = ContextVar("shards", default=1)


def current_place() -> Place | None:
    """Returns the place of the current call; `None` if it has all images in the step's order."""
    shards = _shards.get()
    return None if shards == 1 else Place(None, shards, 0, 1)


@contextlib.contextmanager
def batches_of_shards(count: int) -> Iterator[None]:
    """Within this context a training batch is that many shards of a step, one after another."""
    token = _shards.set(count)
    try:
        yield
    finally:
        _shards.reset(token)
