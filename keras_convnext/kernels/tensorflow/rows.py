"""Images as matrices for TensorFlow, whose rows are pixels and whose columns are channels.

Sizes that are known when a function is traced are written into its graph: to ask for one takes five
operations, and a graph's operations take memory and time to trace.
"""

import tensorflow as tf


def sizes_of(x) -> list:
    """Returns a tensor's sizes: numbers, or scalar tensors where they are open."""
    return [tf.shape(x)[axis] if size is None else size for axis, size in enumerate(x.shape)]


def rows_of(images):
    """Returns a tensor as a matrix with the same last axis."""
    return tf.reshape(images, (-1, images.shape[-1]))


def images_of(rows, images):
    """Returns rows that were made of images' rows as images, with the channels that they have."""
    return tf.reshape(rows, [*sizes_of(images)[:-1], rows.shape[-1]])
