"""Matrices and sums for TensorFlow.

Sizes known while tracing are written into the graph as numbers: reading one at run time takes five
operations, and each operation of a graph costs memory and tracing time.
"""

import tensorflow as tf


def sizes_of(x) -> list:
    """Returns a tensor's sizes: numbers, or scalar tensors where they are unknown while tracing."""
    return [tf.shape(x)[axis] if size is None else size for axis, size in enumerate(x.shape)]


def as_rows(images):
    """Returns a tensor as a matrix with the same last axis: a row per pixel."""
    return tf.reshape(images, (-1, images.shape[-1]))


def as_images(rows, images):
    """Returns the rows of a matrix in the shape of `images`, with the channels of the rows."""
    return tf.reshape(rows, [*sizes_of(images)[:-1], rows.shape[-1]])


def accumulation_dtype(x):
    """Returns the dtype to sum values of `x` in: in bfloat16 a sum stops growing at 256 ones."""
    return x.dtype if x.dtype.size > 4 else tf.float32


def reduce_rows(rows):
    """Returns the sum of a matrix's rows, such as the gradient of a bias.

    It is a matmul, which on CPU is twice as fast as a reduction and accumulates in float32.
    """
    ones = tf.ones((1, sizes_of(rows)[0]), rows.dtype)
    return tf.squeeze(tf.matmul(ones, rows), axis=0)


def channel_mean(rows, weights=None):
    """Returns the mean of each row of a matrix, as a column.

    On CPU it is a matmul, which takes a fraction of a reduction's time. On GPU it is a reduction,
    since matmuls round their operands there.

    Args:
        rows: Matrix.
        weights: Factors of the channels, a vector. Defaults to `None`, which multiplies by nothing.
    """
    if tf.config.list_logical_devices("GPU"):
        weighted = rows if weights is None else rows * weights
        return tf.reduce_mean(weighted, axis=-1, keepdims=True)
    channels = rows.shape[-1]
    shares = tf.ones(channels, rows.dtype) if weights is None else weights
    return tf.matmul(rows, tf.expand_dims(shares / channels, axis=1))
