"""Pillow's image operations in TensorFlow, with Pillow's results.

Images are `uint8` of shape `(height, width, 3)`, as arguments and as results. Operations with
lookup tables or blending are equal to Pillow's in every value. Operations that resample compute in
`float32` where Pillow computes in `float64`; they differ by 1 where the difference crosses a whole
number. KerasCV's operations of the same names differ: they blend without rounding and do not
resample bicubically.

On a processor, TensorFlow runs most of these operations at the speed of memory. Three things take
ten times as long: `tf.where` on images, broadcasting along the innermost axis, and gathering single
values. This code multiplies by masks, tiles per-channel values to a row, and gathers pixels
together with their neighbours.

Arguments are scalar tensors or numbers. Source: Pillow's `ImageOps.py`, `ImageEnhance.py`,
`Blend.c`, `Filter.c` and `Geometry.c`.
"""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_convnext.data.transforms.affine import BICUBIC, affine

# Colour of points outside of the image: ImageNet's mean colour, as in timm.
FILL = (124, 116, 104)
# Weights of red, green and blue in Pillow's grey, of 2**16.
GREY = (19595, 38470, 7471)


def autocontrast(image: tf.Tensor) -> tf.Tensor:
    """Stretches the values of each channel to the range from 0 to 255."""
    flat = tf.reshape(image, (-1, 3))
    low = tf.cast(tf.reduce_min(flat, axis=0), tf.float64)
    high = tf.cast(tf.reduce_max(flat, axis=0), tf.float64)
    is_stretched = high > low
    scale = tf.where(is_stretched, 255 / tf.maximum(high - low, 1), 1)
    offset = tf.where(is_stretched, low * scale, 0)
    rows = tf.cast(_as_rows(image), tf.float64)
    stretched = rows * _tile_to_row(scale, image) - _tile_to_row(offset, image)
    return tf.reshape(tf.cast(stretched, tf.uint8), tf.shape(image))


def equalize(image: tf.Tensor) -> tf.Tensor:
    """Equalizes the histogram of each channel."""
    # Index of each value in a flattened table of shape (256, 3).
    places = 3 * tf.cast(_as_rows(image), tf.int32) + _tile_to_row(tf.range(3), image)
    counts = tf.math.bincount(tf.reshape(places, (-1,)), minlength=768, maxlength=768)
    counts = tf.reshape(counts, (256, 3))
    values = tf.range(256)[:, None]
    greatest = tf.reduce_max(tf.where(counts > 0, values, 0), axis=0)
    of_greatest = tf.reduce_sum(tf.where(values == greatest, counts, 0), axis=0)
    step = (tf.reduce_sum(counts, axis=0) - of_greatest) // 255
    below = tf.cumsum(counts, axis=0, exclusive=True)
    table = (step // 2 + below) // tf.maximum(step, 1)
    table = tf.where(step > 0, tf.minimum(table, 255), values)
    table = tf.reshape(tf.cast(table, tf.uint8), (-1,))
    return tf.reshape(tf.gather(table, places), tf.shape(image))


def invert(image: tf.Tensor) -> tf.Tensor:
    """Returns 255 minus every value."""
    return 255 - image


def posterize(image: tf.Tensor, bits) -> tf.Tensor:
    """Keeps the highest `bits` bits, 0 to 8, of every value."""
    mask = 256 - tf.bitwise.left_shift(1, 8 - tf.cast(bits, tf.int32))
    return tf.bitwise.bitwise_and(image, tf.cast(mask, tf.uint8))


def solarize(image: tf.Tensor, threshold) -> tf.Tensor:
    """Inverts the values at or above `threshold`; 256 inverts none."""
    is_inverted = tf.cast(image, tf.float32) >= tf.cast(threshold, tf.float32)
    # Flipping all bits of a value is subtracting it from 255.
    return tf.bitwise.bitwise_xor(image, 255 * tf.cast(is_inverted, tf.uint8))


def solarize_add(image: tf.Tensor, addend) -> tf.Tensor:
    """Adds a whole number to the values below 128, up to 255. Source: timm's `solarize_add`."""
    # No sum exceeds 255, as the addend is at most 128.
    return image + tf.cast(image < 128, tf.uint8) * tf.cast(addend, tf.uint8)


def color(image: tf.Tensor, factor) -> tf.Tensor:
    """Blends with the grey image: 0 is grey, 1 the image, more is more colourful."""
    return _blend(tf.reshape(_grey(image, channels=3), tf.shape(image)), image, factor)


def contrast(image: tf.Tensor, factor) -> tf.Tensor:
    """Blends with the mean grey: 0 is uniform grey, 1 the image, more has more contrast."""
    grey = _grey(image, channels=1)
    total = tf.reduce_sum(tf.cast(grey, tf.int64))
    pixels = tf.size(grey, tf.int64)
    return _blend((2 * total + pixels) // (2 * pixels), image, factor)


def brightness(image: tf.Tensor, factor) -> tf.Tensor:
    """Blends with black: 0 is black, 1 is the image, more is brighter."""
    return _blend(0, image, factor)


def sharpness(image: tf.Tensor, factor) -> tf.Tensor:
    """Blends with a smoothed image: 0 is smooth, 1 is the image, more is sharper."""
    pixels = tf.cast(image, tf.float32)
    rows = pixels[:-2] + pixels[1:-1] + pixels[2:]
    sums = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * pixels[1:-1, 1:-1]
    # Pillow does not smooth pixels at the edges, so these stay as they are.
    inner = _blend(tf.floor(sums / 13 + 0.5), image[1:-1, 1:-1], factor)
    middle = image[1:-1]
    # An image one pixel high or wide has no second edge.
    middle = tf.concat([middle[:, :1], inner, middle[:, 1:][:, -1:]], axis=1)
    return tf.ensure_shape(tf.concat([image[:1], middle, image[1:][-1:]], axis=0), image.shape)


def rotate(
    image: tf.Tensor, degrees, kernel: np.ndarray = BICUBIC, fill: Sequence[int] = FILL
) -> tf.Tensor:
    """Rotates the image counter-clockwise about its centre; its size does not change."""
    angle = -tf.cast(degrees, tf.float64) * (math.pi / 180)
    cosine, sine = tf.cos(angle), tf.sin(angle)
    height, width = (tf.cast(side, tf.float64) / 2 for side in _size(image))
    x_row = (cosine, sine, width - cosine * width - sine * height)
    y_row = (-sine, cosine, height + sine * width - cosine * height)
    return affine(image, x_row, y_row, kernel, fill)


def shear_x(
    image: tf.Tensor, factor, kernel: np.ndarray = BICUBIC, fill: Sequence[int] = FILL
) -> tf.Tensor:
    """Moves each row to the left by `factor` times its distance from the top."""
    return affine(image, (1, factor, 0), None, kernel, fill)


def shear_y(
    image: tf.Tensor, factor, kernel: np.ndarray = BICUBIC, fill: Sequence[int] = FILL
) -> tf.Tensor:
    """Moves each column up by `factor` times its distance from the left."""
    return _transpose(shear_x(_transpose(image), factor, kernel, fill))


def translate_x(
    image: tf.Tensor, pixels, kernel: np.ndarray = BICUBIC, fill: Sequence[int] = FILL
) -> tf.Tensor:
    """Translates the image to the left by pixels, which may be fractional."""
    return affine(image, (1, 0, pixels), None, kernel, fill)


def translate_y(
    image: tf.Tensor, pixels, kernel: np.ndarray = BICUBIC, fill: Sequence[int] = FILL
) -> tf.Tensor:
    """Translates the image up by pixels, which may be fractional."""
    return _transpose(translate_x(_transpose(image), pixels, kernel, fill))


def _as_rows(image):
    """Reshapes an image to `(height, 3 * width)`."""
    height, width = _size(image)
    return tf.reshape(image, (height, 3 * width))


def _tile_to_row(of_channels, image):
    """Tiles the values of three channels to a row of pixels."""
    return tf.tile(of_channels, [_size(image)[1]])


def _grey(image, channels):
    """Returns Pillow's grey of every pixel in each channel: `float32`, `(pixels, channels)`."""
    weights = np.repeat(np.array(GREY, "float32")[:, None], channels, axis=1)
    # Exact, since all sums are whole numbers below 2**24.
    weighted = tf.matmul(tf.reshape(tf.cast(image, tf.float32), (-1, 3)), weights)
    return tf.floor((weighted + 2**15) / 2**16)


def _blend(start, image, factor):
    """Interpolates, or extrapolates, from `start` to the image; truncates as Pillow does."""
    start = tf.cast(start, tf.float32)
    blended = start + tf.cast(factor, tf.float32) * (tf.cast(image, tf.float32) - start)
    return tf.cast(tf.clip_by_value(blended, 0, 255), tf.uint8)


def _transpose(image):
    # In float32, since TensorFlow warns when it transposes bytes on processors without AVX-512.
    return tf.cast(tf.transpose(tf.cast(image, tf.float32), (1, 0, 2)), image.dtype)


def _size(image):
    shape = tf.shape(image)
    return shape[0], shape[1]
