"""The images that a pipeline asked for last, so that the one it failed at can be found again.

TensorFlow's decoders do not say which image they were given, and a pipeline is some images ahead of
what is used. Noting a number costs nothing, and only a failure looks at the images again.
"""

import collections
from collections.abc import Callable

MOST = 2**16  # more than are between being asked for and being used


class Requested:
    """Numbers of images, of which the oldest are forgotten."""

    def __init__(self) -> None:
        self._numbers: collections.deque[int] = collections.deque(maxlen=MOST)

    def note(self, number: int) -> None:
        """Remembers an image; any thread may."""
        self._numbers.append(number)

    def first_fault(self, fault_of: Callable[[int], str | None]) -> str | None:
        """Returns what is wrong with one of the images, the last ones looked at first.

        Args:
            fault_of: Says of an image what is wrong with it, or `None`.
        """
        numbers = reversed(self._numbers.copy())
        return next(filter(None, map(fault_of, dict.fromkeys(numbers))), None)
