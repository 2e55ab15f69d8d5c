"""Sums for TensorFlow in at least float32: in bfloat16 they would stop growing."""

import tensorflow as tf

from keras_convnext.kernels.tensorflow.rows import sizes_of


def exact(x):
    """Returns the type to add up values of `x` in."""
    return x.dtype if x.dtype.size > 4 else tf.float32


def sum_of_rows(rows):
    """Returns the sum of a matrix's rows, such as a bias's gradient.

    It is a product: on CPU twice as fast, and added up in float32.
    """
    ones = tf.ones((1, sizes_of(rows)[0]), rows.dtype)
    return tf.squeeze(tf.matmul(ones, rows), axis=0)


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
    channels = rows.shape[-1]
    shares = tf.ones(channels, rows.dtype) if weights is None else weights
    return tf.matmul(rows, tf.expand_dims(shares / channels, axis=1))
