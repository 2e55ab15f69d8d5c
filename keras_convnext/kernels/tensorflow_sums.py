"""Sums for TensorFlow in at least float32: in bfloat16 they would stop growing."""

import tensorflow as tf


def exact(x):
    """Returns the type to add up values of `x` in."""
    return x.dtype if x.dtype.size > 4 else tf.float32


def sum_of_rows(rows):
    """Returns the sum of a matrix's rows, such as a bias's gradient.

    It is a product: on CPU twice as fast, and added up in float32.
    """
    return tf.matmul(tf.ones((1, tf.shape(rows)[0]), rows.dtype), rows)[0]


def mean_of_channels(rows, weights=None):
    """Returns the mean of each of a matrix's rows, as a column.

    On CPU it is a product, which takes a fraction of the time; GPUs round what they multiply.

    Args:
        rows: Matrix.
        weights: What the channels are multiplied with, a vector. Defaults to `None`, by nothing.
    """
    if tf.config.list_logical_devices("GPU"):
        weighted = rows if weights is None else rows * weights
        return tf.reduce_mean(weighted, axis=-1, keepdims=True)
    share = tf.constant(1 / rows.shape[-1], rows.dtype)
    column = tf.fill((rows.shape[-1], 1), share)
    return tf.matmul(rows, column if weights is None else column * weights[:, tf.newaxis])
