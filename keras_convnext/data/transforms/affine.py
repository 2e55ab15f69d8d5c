"""Affine transforms of an image in TensorFlow, with Pillow's results.

Every pixel of the result is interpolated at a point between pixels of the image. TensorFlow's time
for `tf.gather` depends on the number of slices and not on their size. The four pixels of a row that
a point needs are therefore gathered as one slice. Pillow computes in `float64`, this code in
`float32`; values differ by 1 where the difference crosses a whole number. Source: Pillow's
`Geometry.c`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

# Interpolation at r, from 0 to 1, of the four pixels at -1, 0, 1 and 2. A column holds the
# coefficients of 1, r, r**2 and r**3 in the weight of its pixel.
BICUBIC = np.array([[0, 1, 0, 0], [-1, 0, 1, 0], [2, -2, 1, -1], [-1, 1, -1, 1]], np.float32)
BILINEAR = np.array([[0, 1, 0, 0], [0, -1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]], np.float32)
TAPS = 4
# The taps of a point in the image are at most this many pixels outside of the image.
MARGIN = 2
# Added before truncation, so that rounding errors do not take a whole number, as in a surface of
# one colour, to the one below it.
ROUNDING = 2**-12


def affine(
    image: tf.Tensor,
    x_row: Sequence,
    y_row: Sequence | None,
    kernel: np.ndarray,
    fill: Sequence[int],
) -> tf.Tensor:
    """Applies an affine transform, which maps points of the result to points of the image.

    Args:
        image: `uint8` of shape `(height, width, 3)`.
        x_row: The coefficients a, b and c of the horizontal coordinate a * x + b * y + c.
        y_row: Those of the vertical coordinate; `None` if pixels stay in their row.
        kernel: The interpolation, `BICUBIC` or `BILINEAR`.
        fill: Colour of points outside of the image.

    Returns:
        The transformed image, of the same type and shape.
    """
    height, width = tf.unstack(tf.shape(image)[:2])
    y = (tf.range(tf.cast(height, tf.float64), dtype=tf.float64) + 0.5)[:, None]
    x = tf.range(tf.cast(width, tf.float64), dtype=tf.float64) + 0.5
    from_x = x_row[0] * x + (x_row[1] * y + x_row[2])
    from_y = y if y_row is None else y_row[0] * x + (y_row[1] * y + y_row[2])
    is_inside = (from_x >= 0) & (from_x < tf.cast(width, tf.float64))
    is_inside &= (from_y >= 0) & (from_y < tf.cast(height, tf.float64))
    left, x_rest = _split_fraction(from_x - 0.5)
    top, y_rest = _split_fraction(from_y - 0.5)

    padded, row = _pad(image, fill)
    windows = _windows(padded)
    first = (top + MARGIN - 1) * row + (left + MARGIN - 1)
    filled = (height + 2 * MARGIN) * row
    first = tf.reshape(tf.where(is_inside, first, filled), (-1,))
    if y_row is None:
        values = windows.at(first + row)
    else:
        powers = _powers(y_rest)
        values = tf.add_n(
            [
                windows.at(first + tap * row) * _weights(powers, kernel[:, [tap] * 3 * TAPS])
                for tap in range(TAPS)
                if kernel[:, tap].any()
            ]
        )
    values *= _weights(_powers(x_rest), np.repeat(kernel, 3, axis=1))
    values = tf.matmul(values, np.tile(np.eye(3, dtype=np.float32), (TAPS, 1)))
    values = tf.cast(tf.clip_by_value(values + ROUNDING, 0, 255), tf.uint8)
    return tf.ensure_shape(tf.reshape(values, tf.shape(image)), image.shape)


def _split_fraction(coordinates):
    whole = tf.floor(coordinates)
    return tf.cast(whole, tf.int32), tf.cast(coordinates - whole, tf.float32)


def _pad(image, fill):
    """Extends the edges by the margin and appends a row of the fill colour for each tap.

    Returns:
        The values in one axis; and the number of pixels in a row, a multiple of the taps.
    """
    image = tf.concat([image[:1]] * MARGIN + [image] + [image[-1:]] * MARGIN, axis=0)
    image = tf.concat([image[:, :1]] * MARGIN + [image] + [image[:, -1:]] * MARGIN, axis=1)
    width = tf.shape(image)[1]
    row = (width + TAPS - 1) // TAPS * TAPS
    image = tf.pad(image, ((0, 0), (0, row - width), (0, 0)))
    below = tf.broadcast_to(tf.constant(fill, tf.uint8), (TAPS, row, 3))
    return tf.reshape(tf.concat([image, below], axis=0), (-1,)), row


class _Windows(NamedTuple):
    """All windows of four pixels, grouped by the index of the first pixel modulo four.

    Attributes:
        table: `uint8` of shape `(windows, 12)`.
        group_size: Number of windows in each of the four groups.
    """

    table: tf.Tensor
    group_size: tf.Tensor

    def at(self, pixels):
        """Returns the windows that begin at the given pixels, in `float32`."""
        group = tf.bitwise.bitwise_and(pixels, TAPS - 1)
        indices = group * self.group_size + tf.bitwise.right_shift(pixels, 2)
        return tf.cast(tf.gather(self.table, indices), tf.float32)


def _windows(values):
    """Returns the windows of an image, whose values are given in one axis."""
    length = 3 * TAPS
    group_size = tf.size(values) // length - 1
    groups = [values[3 * start : 3 * start + length * group_size] for start in range(TAPS)]
    return _Windows(tf.reshape(tf.concat(groups, axis=0), (-1, length)), group_size)


def _powers(rest):
    """Returns 1, r, r**2 and r**3 of every pixel: `(4, pixels)`."""
    rest = tf.reshape(rest, (-1,))
    square = rest * rest
    return tf.stack([tf.ones_like(rest), rest, square, square * rest])


def _weights(powers, kernel):
    """Returns the weights of every pixel, `(pixels, columns of the kernel)`."""
    return tf.matmul(powers, kernel, transpose_a=True)
