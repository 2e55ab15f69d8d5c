"""Numbers running through parts, such as files or classes, told by where each part ends."""

import bisect
from collections.abc import Sequence


def numbers_of(ends: Sequence[int], part: int) -> range:
    """Returns the numbers that lie in a part.

    Example:
        >>> numbers_of([3, 5], 1)
        range(3, 5)
    """
    return range(ends[part - 1] if part else 0, ends[part])


def place_among(ends: Sequence[int], number: int) -> tuple[int, int]:
    """Returns in which part a number lies, and its number within the part."""
    part = bisect.bisect_right(ends, number)
    return part, number - numbers_of(ends, part).start
