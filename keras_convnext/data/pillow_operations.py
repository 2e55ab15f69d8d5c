"""Operations on images that give what Pillow's give, in TensorFlow.

Images are `uint8` of shape `(height, width, 3)`, before and after. What works by lookup tables or
by blending is equal to Pillow in every value. What resamples computes in `float32` where Pillow has
`float64`, and differs by 1 where that moves a value across a whole number. KerasCV's operations of
these names compute something else: they blend without rounding, and do not resample bicubically.

The functions take their arguments as scalar tensors or numbers. Source: Pillow's `ImageOps.py`,
`ImageEnhance.py`, `Blend.c`, `Filter.c` and `Geometry.c`.
"""

import math
from collections.abc import Sequence

import tensorflow as tf

# What stands where a moved image leaves its frame: ImageNet's mean colour, as in timm.
FILL = (124, 116, 104)
# Weights of red, green and blue in Pillow's grey, of 2**16.
GREY = (19595, 38470, 7471)
# Pixels, from the one left of (or above) a point, that a cubic through the point takes.
CUBIC = (-1, 0, 1, 2)
ITSELF = (0,)


def autocontrast(image: tf.Tensor) -> tf.Tensor:
    """Stretches the values of each channel so that they reach from 0 to 255."""
    flat = tf.reshape(image, (-1, 3))
    low = tf.cast(tf.reduce_min(flat, axis=0), tf.float64)
    high = tf.cast(tf.reduce_max(flat, axis=0), tf.float64)
    scale = 255 / tf.maximum(high - low, 1)
    table = tf.range(256, dtype=tf.float64)[:, None] * scale - low * scale
    return _look_up(image, tf.where(high > low, table, _unchanged(tf.float64)))


def equalize(image: tf.Tensor) -> tf.Tensor:
    """Spreads the values of each channel so that all are about as frequent."""
    counts = tf.math.bincount(tf.reshape(_places(image), (-1,)), minlength=768, maxlength=768)
    counts = tf.reshape(counts, (256, 3))
    values = tf.range(256)[:, None]
    greatest = tf.reduce_max(tf.where(counts > 0, values, 0), axis=0)
    of_greatest = tf.reduce_sum(tf.where(values == greatest, counts, 0), axis=0)
    step = (tf.reduce_sum(counts, axis=0) - of_greatest) // 255
    below = tf.cumsum(counts, axis=0, exclusive=True)
    table = (step // 2 + below) // tf.maximum(step, 1)
    return _look_up(image, tf.where(step > 0, table, _unchanged(tf.int32)))


def invert(image: tf.Tensor) -> tf.Tensor:
    """Takes every value from 255."""
    return 255 - image


def posterize(image: tf.Tensor, bits) -> tf.Tensor:
    """Keeps the highest `bits` bits, 0 to 8, of every value."""
    mask = 256 - tf.bitwise.left_shift(1, 8 - tf.cast(bits, tf.int32))
    return tf.bitwise.bitwise_and(image, tf.cast(mask, tf.uint8))


def solarize(image: tf.Tensor, threshold) -> tf.Tensor:
    """Inverts the values from `threshold` on; 256 leaves all as they are."""
    return tf.where(tf.cast(image, tf.int32) < threshold, image, 255 - image)


def solarize_add(image: tf.Tensor, addend) -> tf.Tensor:
    """Adds a whole number to the values below 128, up to 255. Source: timm's `solarize_add`."""
    # No sum exceeds 255, as the addend is at most 128.
    return tf.where(image < 128, image + tf.cast(addend, tf.uint8), image)


def color(image: tf.Tensor, factor) -> tf.Tensor:
    """Blends with the grey image: 0 is grey, 1 the image, more is more colourful."""
    return _blend(_grey(image)[..., None], image, factor)


def contrast(image: tf.Tensor, factor) -> tf.Tensor:
    """Blends with the mean grey: 0 is all grey, 1 the image, more has more contrast."""
    grey = _grey(image)
    total = tf.reduce_sum(tf.cast(grey, tf.int64))
    pixels = tf.size(grey, tf.int64)
    return _blend((2 * total + pixels) // (2 * pixels), image, factor)


def brightness(image: tf.Tensor, factor) -> tf.Tensor:
    """Blends with black: 0 is black, 1 the image, more is brighter."""
    return _blend(0, image, factor)


def sharpness(image: tf.Tensor, factor) -> tf.Tensor:
    """Blends with a smoothed image: 0 is smooth, 1 the image, more is sharper."""
    pixels = tf.cast(image, tf.float32)
    rows = pixels[:-2] + pixels[1:-1] + pixels[2:]
    sums = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * pixels[1:-1, 1:-1]
    # Pillow smooths no pixel at the edge; there, blending gives the image itself.
    inner = _blend(tf.floor(sums / 13 + 0.5), image[1:-1, 1:-1], factor)
    middle = tf.concat([image[1:-1, :1], inner, image[1:-1, -1:]], axis=1)
    return tf.ensure_shape(tf.concat([image[:1], middle, image[-1:]], axis=0), image.shape)


def rotate(image: tf.Tensor, degrees) -> tf.Tensor:
    """Turns the image counter-clockwise about its centre; bicubic, the size stays."""
    angle = -tf.cast(degrees, tf.float64) * (math.pi / 180)
    cosine, sine = tf.cos(angle), tf.sin(angle)
    height, width = (tf.cast(side, tf.float64) / 2 for side in _size(image))
    x_row = (cosine, sine, width - cosine * width - sine * height)
    y_row = (-sine, cosine, height + sine * width - cosine * height)
    return _affine(image, x_row, y_row, rows=CUBIC, columns=CUBIC)


def shear_x(image: tf.Tensor, factor) -> tf.Tensor:
    """Moves each row to the left by `factor` times its height; bicubic."""
    return _affine(image, (1, factor, 0), (0, 1, 0), rows=ITSELF, columns=CUBIC)


def shear_y(image: tf.Tensor, factor) -> tf.Tensor:
    """Moves each column up by `factor` times its distance from the left; bicubic."""
    return _affine(image, (1, 0, 0), (factor, 1, 0), rows=CUBIC, columns=ITSELF)


def translate_x(image: tf.Tensor, share) -> tf.Tensor:
    """Moves the image to the left by a share of its width; bicubic."""
    pixels = share * tf.cast(_size(image)[1], tf.float64)
    return _affine(image, (1, 0, pixels), (0, 1, 0), rows=ITSELF, columns=CUBIC)


def translate_y(image: tf.Tensor, share) -> tf.Tensor:
    """Moves the image up by a share of its height; bicubic."""
    pixels = share * tf.cast(_size(image)[0], tf.float64)
    return _affine(image, (1, 0, 0), (0, 1, pixels), rows=CUBIC, columns=ITSELF)


def _places(image):
    """Returns where each value stands in a flattened table of shape `(256, 3)`."""
    return tf.cast(image, tf.int32) * 3 + tf.range(3)


def _unchanged(dtype):
    return tf.range(256, dtype=dtype)[:, None]


def _look_up(image, table):
    """Replaces values by those of a table `(256, 3)`, cut off to whole numbers from 0 to 255."""
    table = tf.cast(tf.clip_by_value(table, 0, 255), tf.uint8)
    return tf.gather(tf.reshape(table, (-1,)), _places(image))


def _grey(image):
    weighted = tf.reduce_sum(tf.cast(image, tf.int32) * GREY, axis=-1)
    return tf.bitwise.right_shift(weighted + 2**15, 16)


def _blend(start, image, factor):
    """Goes from `start` to the image by `factor`, or beyond it; cuts fractions off, as Pillow."""
    start = tf.cast(start, tf.float32)
    blended = start + tf.cast(factor, tf.float32) * (tf.cast(image, tf.float32) - start)
    return tf.cast(tf.clip_by_value(blended, 0, 255), tf.uint8)


def _affine(
    image: tf.Tensor, x_row: Sequence, y_row: Sequence, rows: Sequence, columns: Sequence
) -> tf.Tensor:
    """Fetches every pixel from where an affine map says, as Pillow's `transform` with `BICUBIC`.

    Args:
        image: The image.
        x_row: Factors of x and y and the addend that give where to fetch from, horizontally.
        y_row: The same vertically.
        rows: `CUBIC`, or `ITSELF` where no pixel moves by fractions vertically.
        columns: The same horizontally.
    """
    height, width = _size(image)
    y = (tf.range(tf.cast(height, tf.float64), dtype=tf.float64) + 0.5)[:, None]
    x = tf.range(tf.cast(width, tf.float64), dtype=tf.float64) + 0.5
    from_x = x_row[0] * x + x_row[1] * y + x_row[2]
    from_y = y_row[0] * x + y_row[1] * y + y_row[2]
    is_inside = (from_x >= 0) & (from_x < tf.cast(width, tf.float64))
    is_inside &= (from_y >= 0) & (from_y < tf.cast(height, tf.float64))

    left, x_rest = _whole_and_rest(from_x - 0.5)
    top, y_rest = _whole_and_rest(from_y - 0.5)
    near_x = tf.stack([tf.clip_by_value(left + column, 0, width - 1) for column in columns])
    near_y = tf.stack([tf.clip_by_value(top + row, 0, height - 1) for row in rows])
    values = _gather_pixels(image, near_y[:, None] * width + near_x)
    in_rows = [_interpolate(tf.unstack(row), x_rest) for row in tf.unstack(values)]
    values = _interpolate(in_rows, y_rest)
    moved = tf.cast(tf.clip_by_value(values, 0, 255), tf.uint8)[..., :3]
    moved = tf.where(is_inside[..., None], moved, tf.constant(FILL, tf.uint8))
    return tf.ensure_shape(moved, image.shape)


def _whole_and_rest(coordinates):
    whole = tf.floor(coordinates)
    return tf.cast(whole, tf.int32), tf.cast(coordinates - whole, tf.float32)[..., None]


def _gather_pixels(image, places):
    """Returns the pixels at places of the flattened image: `float32`, `(*places, 4)`.

    Four bytes make one number, as TensorFlow gathers numbers several times faster than slices of
    three; the fourth is 0.
    """
    numbers = tf.reshape(tf.bitcast(tf.pad(image, ((0, 0), (0, 0), (0, 1))), tf.int32), (-1,))
    return tf.cast(tf.bitcast(tf.gather(numbers, places), tf.uint8), tf.float32)


def _interpolate(values, rest):
    """Puts Pillow's cubic through four values, in its order of operations; or takes the only one.

    `rest` is how far from the second to the third the result stands, from 0 to 1.
    """
    if len(values) == 1:
        return values[0]
    first, second, third, fourth = values
    cube = second - first - third + fourth
    square = 2 * (first - second) + third - fourth
    return second + rest * (third - first + rest * (square + rest * cube))


def _size(image):
    shape = tf.shape(image)
    return shape[0], shape[1]
