"""Chunks that fit the cache of a CPU, where XLA would read whole arrays from memory repeatedly."""

import jax

# Measured on one CPU: twice as much, or half, was slower in most layers of the network.
CACHE_BYTES = 5 * 2**19


def split(x, size: int):
    """Returns an array whose first axis is split into chunks of `size`, which must divide it."""
    return x[None] if size == x.shape[0] else x.reshape(-1, size, *x.shape[1:])


def chunk_size(count: int, bytes_per_item: int, minimum: int = 1) -> int:
    """Returns how many items a chunk has: a divisor of `count` that fits the cache.

    It returns `count` itself if no divisor comes close to the size of the cache, on other devices,
    which need large arrays, and if `count` is symbolic, as in an export.

    Args:
        count: Number of items.
        bytes_per_item: Size of an item.
        minimum: Items that a chunk has even if they do not fit the cache. Defaults to 1.
    """
    if not isinstance(count, int) or jax.default_backend() != "cpu":
        return count
    most = max(CACHE_BYTES // bytes_per_item, minimum)
    if count <= most:
        return count
    return next((size for size in range(most, most // 4, -1) if count % size == 0), count)
