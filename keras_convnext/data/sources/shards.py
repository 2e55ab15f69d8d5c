"""Maps an index over all shards, such as files or classes, to a shard and an index within it."""

import bisect
from collections.abc import Sequence


def indices_of(ends: Sequence[int], shard: int) -> range:
    """Returns the indices of a shard's elements.

    Args:
        ends: For each shard, the index after its last element.
        shard: The number of the shard.

    Example:
        >>> indices_of([3, 5], 1)
        range(3, 5)
    """
    return range(ends[shard - 1] if shard else 0, ends[shard])


def locate(ends: Sequence[int], index: int) -> tuple[int, int]:
    """Returns the number of the shard that has an element, and the index within the shard.

    Example:
        >>> locate([3, 5], 4)
        (1, 1)
    """
    shard = bisect.bisect_right(ends, index)
    return shard, index - indices_of(ends, shard).start
