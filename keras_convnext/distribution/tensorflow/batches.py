"""The batches of the replicas of one process."""

from typing import Any

import tensorflow as tf


def split_batches(dataset: tf.data.Dataset, parts: int) -> tf.data.Dataset:
    """Returns a dataset with the parts of each batch one after another, in order.

    The parts of a batch differ by one image at most. Those of a batch with fewer images than parts
    may be empty.

    Args:
        dataset: Batches; the first axis of each of their tensors counts the images.
        parts: Parts of each batch.

    Example:
        >>> dataset = tf.data.Dataset.range(5).batch(5)
        >>> list(split_batches(dataset, 2).as_numpy_iterator())
        [array([0, 1]), array([2, 3, 4])]
    """

    def split(*batch):
        images = tf.shape(tf.nest.flatten(batch)[0])[0]

        def part(number):
            start, stop = images * number // parts, images * (number + 1) // parts
            return tf.nest.map_structure(
                lambda x: _set_size(x[start:stop], x, parts), _single(batch)
            )

        return tf.data.Dataset.range(parts, output_type=tf.int32).map(part)

    return dataset.flat_map(split)


def _single(batch: tuple) -> Any:
    # Batches that are tuples arrive as several arguments.
    return batch if len(batch) > 1 else batch[0]


def _set_size(part, batch, parts):
    """Writes the size of a part into its static shape, if all parts have the same."""
    size = batch.shape[0]
    if size is not None and size % parts == 0:
        part.set_shape((size // parts, *batch.shape[1:]))
    return part


def set_steps(dataset: tf.distribute.DistributedDataset, steps: int) -> None:
    """Says how many steps a dataset has, so that Keras does not look for one more.

    TensorFlow 2.21 counts the batches of all replicas. In several processes, random generators
    would advance in the step without data. The name is TensorFlow's private one;
    `tests/test_private_apis.py` checks it.
    """
    dataset._cardinality = steps
