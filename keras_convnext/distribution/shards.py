"""Which images of a step each process has.

Mixup and CutMix mix image i of a step with image n - 1 - i. Each process therefore has a run of
images from the first half of the step and their partners from the second half, so that it can mix
them alone, and the step is the same for any number of processes.
"""


def position_in_step(number, shard_size: int, shard_index: int, num_shards: int):
    """Returns the position in the whole step of an image of one shard.

    With one shard the two are equal. In a shard of odd size the first half is the larger one, and
    the partners of its middle images are in other shards.

    Args:
        number: Position within the shard, from 0; an integer, or an integer array or tensor.
        shard_size: Images in each shard.
        shard_index: The shard, from 0.
        num_shards: Number of shards.

    Example:
        >>> [position_in_step(i, 4, shard_index=1, num_shards=2) for i in range(4)]
        [2, 3, 4, 5]
    """
    second = shard_size // 2
    first = shard_size - second
    is_second = number // first
    start_of_second = shard_size * num_shards - (shard_index + 1) * second
    return (
        number + shard_index * first + is_second * (start_of_second - first - shard_index * first)
    )
