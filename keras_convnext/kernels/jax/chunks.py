"""Parts that stay in a processor's cache, where XLA would go over whole arrays again and again."""

import jax

# Measured on one processor: twice as much, or half, took longer in most of the network.
BYTES_IN_THE_CACHE = 5 * 2**19


def in_parts(x, count: int):
    """Returns an array whose first axis is split into parts of `count`, without remainder."""
    return x[None] if count == x.shape[0] else x.reshape(-1, count, *x.shape[1:])


def count_in_the_cache(count: int, bytes_of_one: int, at_least: int = 1) -> int:
    """Returns how many of equal things to take at a time: a part of `count` without remainder.

    Args:
        count: How many there are; returned itself where no part of it comes near to the cache's
            size, on other devices, which need many things at a time, and where it is open, as
            when a model is exported.
        bytes_of_one: How much one of them takes.
        at_least: So many are taken even if they do not stay in the cache.
    """
    if not isinstance(count, int) or jax.default_backend() != "cpu":
        return count
    most = max(BYTES_IN_THE_CACHE // bytes_of_one, at_least)
    if count <= most:
        return count
    return next((part for part in range(most, most // 4, -1) if count % part == 0), count)
