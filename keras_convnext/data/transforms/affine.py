"""Affine maps of an image that give what Pillow's `transform` gives, in TensorFlow.

Every pixel of the result is fetched from a point between pixels, and the value there follows from
the pixels about it. What takes TensorFlow's time is the number of pieces fetched and not their
size, so the four pixels of a row that a point needs are fetched in one piece. Computed in `float32`
where Pillow has `float64`, values differ by 1 where that moves them across a whole number. Source:
Pillow's `Geometry.c`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

# How a value follows from the four pixels at -1, 0, 1 and 2 if its point is at r, from 0 to 1. The
# columns are the pixels, the rows what 1, r, r**2 and r**3 are multiplied by in their weights.
BICUBIC = np.array([[0, 1, 0, 0], [-1, 0, 1, 0], [2, -2, 1, -1], [-1, 1, -1, 1]], np.float32)
BILINEAR = np.array([[0, 1, 0, 0], [0, -1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]], np.float32)
TAPS = 4
# The taps of a point within the image lie up to so many pixels outside.
MARGIN = 2
# Values that should be whole, as in even surfaces, must not lose 1 for an error of rounding when
# their fractions are cut off.
ROUNDING = 2**-12


def affine(
    image: tf.Tensor,
    x_row: Sequence,
    y_row: Sequence | None,
    kernel: np.ndarray,
    fill: Sequence[int],
) -> tf.Tensor:
    """Fetches every pixel from where an affine map says.

    Args:
        image: `uint8` of shape `(height, width, 3)`.
        x_row: Factors of x and y and the addend that give where to fetch from, horizontally.
        y_row: The same vertically; `None` if pixels stay in their row.
        kernel: `BICUBIC` or `BILINEAR`.
        fill: The colour of what is fetched from outside the image.

    Returns:
        The like of `image`.
    """
    height, width = tf.unstack(tf.shape(image)[:2])
    y = (tf.range(tf.cast(height, tf.float64), dtype=tf.float64) + 0.5)[:, None]
    x = tf.range(tf.cast(width, tf.float64), dtype=tf.float64) + 0.5
    from_x = x_row[0] * x + (x_row[1] * y + x_row[2])
    from_y = y if y_row is None else y_row[0] * x + (y_row[1] * y + y_row[2])
    is_inside = (from_x >= 0) & (from_x < tf.cast(width, tf.float64))
    is_inside &= (from_y >= 0) & (from_y < tf.cast(height, tf.float64))
    left, x_rest = _whole_and_rest(from_x - 0.5)
    top, y_rest = _whole_and_rest(from_y - 0.5)

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


def _whole_and_rest(coordinates):
    whole = tf.floor(coordinates)
    return tf.cast(whole, tf.int32), tf.cast(coordinates - whole, tf.float32)


def _pad(image, fill):
    """Repeats the edges by the margin and puts rows of the fill below, one for each tap.

    Returns all values one after the other, and how many pixels make a row, a multiple of the taps.
    """
    image = tf.concat([image[:1]] * MARGIN + [image] + [image[-1:]] * MARGIN, axis=0)
    image = tf.concat([image[:, :1]] * MARGIN + [image] + [image[:, -1:]] * MARGIN, axis=1)
    width = tf.shape(image)[1]
    row = (width + TAPS - 1) // TAPS * TAPS
    image = tf.pad(image, ((0, 0), (0, row - width), (0, 0)))
    below = tf.broadcast_to(tf.constant(fill, tf.uint8), (TAPS, row, 3))
    return tf.reshape(tf.concat([image, below], axis=0), (-1,)), row


class _Windows(NamedTuple):
    """All runs of four pixels: first those from a multiple of four on, then those from one more.

    Attributes:
        table: `uint8` of shape `(windows, 12)`.
        of_each: How many there are of each of the four kinds.
    """

    table: tf.Tensor
    of_each: tf.Tensor

    def at(self, pixels):
        """Returns the windows that begin at pixels, given by their numbers: `float32`."""
        kind = tf.bitwise.bitwise_and(pixels, TAPS - 1)
        places = kind * self.of_each + tf.bitwise.right_shift(pixels, 2)
        return tf.cast(tf.gather(self.table, places), tf.float32)


def _windows(values):
    """Returns the windows of an image given as one row of values; those of a kind lie in line."""
    length = 3 * TAPS
    of_each = tf.size(values) // length - 1
    kinds = [values[3 * kind : 3 * kind + length * of_each] for kind in range(TAPS)]
    return _Windows(tf.reshape(tf.concat(kinds, axis=0), (-1, length)), of_each)


def _powers(rest):
    """Returns 1, r, r**2 and r**3 of every pixel: `(4, pixels)`."""
    rest = tf.reshape(rest, (-1,))
    square = rest * rest
    return tf.stack([tf.ones_like(rest), rest, square, square * rest])


def _weights(powers, kernel):
    """Returns the weights of every pixel, in as many columns as the kernel."""
    return tf.matmul(powers, kernel, transpose_a=True)
