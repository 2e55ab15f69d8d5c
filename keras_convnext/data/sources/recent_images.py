"""The images that a pipeline requested last, to find the one at which it failed.

TensorFlow's decoders do not say which image they failed at, and a pipeline reads ahead of the
training loop. Recording indices costs next to nothing. The images are read again only after a
failure.
"""

import collections
from collections.abc import Callable

CAPACITY = 2**16  # more images than a pipeline reads ahead


class RecentImages:
    """The indices of the images that were requested last; the oldest are forgotten."""

    def __init__(self) -> None:
        self._indices: collections.deque[int] = collections.deque(maxlen=CAPACITY)

    def record(self, index: int) -> None:
        """Records a requested image. Threads may call this concurrently."""
        self._indices.append(index)

    def first_fault(self, fault_of: Callable[[int], str | None]) -> str | None:
        """Returns the fault of the most recently requested image that has one.

        Args:
            fault_of: Returns the fault of the image at an index, or `None`.
        """
        indices = reversed(self._indices.copy())
        return next(filter(None, map(fault_of, dict.fromkeys(indices))), None)
