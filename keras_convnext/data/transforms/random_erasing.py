"""Random erasing as the paper trains with it: a part of the image becomes noise.

Source: timm's `RandomErasing` in the mode `pixel`, with one part an image.
"""

import math
from collections.abc import Sequence

import tensorflow as tf

from keras_convnext.catalog.preprocessing import OFFICIAL

# Least and greatest share of the image's area, and height by width.
AREA = (0.02, 1 / 3)
RATIO = (0.3, 1 / 0.3)
# Draws of a part that fits the image, before it is left whole.
TRIES = 10


def random_erasing(
    image: tf.Tensor,
    probability: float,
    seed: tf.Tensor,
    mean: Sequence[float] = OFFICIAL.mean,
    std: Sequence[float] = OFFICIAL.std,
) -> tf.Tensor:
    """Replaces a part of the image by noise with a probability.

    The noise is standard normal once the network has normalized the image by `mean` and `std`, so
    it is not confined to 0 to 255.

    Args:
        image: `float32` of shape `(height, width, 3)`, values from 0 to 255.
        probability: How likely it is; the image stays whole, too, where no part drawn fits it.
        seed: Two integers; the same seed erases the same.
        mean: Mean of each channel that the network subtracts, on a scale of 0 to 1. Defaults to
            ImageNet's.
        std: Standard deviation of each channel that it divides by, likewise.

    Returns:
        The like of `image`.
    """
    decision_seed, box_seed, noise_seed = tf.unstack(tf.random.split(seed, 3))
    height, width = tf.unstack(tf.shape(image)[:2])
    box, fits = draw_box(height, width, box_seed)
    is_erased = fits & (tf.random.stateless_uniform((), decision_seed) < probability)
    return tf.cond(is_erased, lambda: _erase(image, box, noise_seed, mean, std), lambda: image)


def draw_box(height, width, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws the part to erase: the area uniformly, the ratio of its sides log-uniformly.

    Args:
        height: The image's height.
        width: The image's width.
        seed: Two integers.

    Returns:
        Top, left, height and width of the first of ten parts that is smaller than the image in both
        directions, `int32` of shape `(4,)`; and whether there is one.
    """
    areas, ratios, tops, lefts = tf.unstack(tf.random.stateless_uniform((4, TRIES), seed))
    areas = (AREA[0] + (AREA[1] - AREA[0]) * areas) * tf.cast(height * width, tf.float32)
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    ratios = tf.exp(low + (high - low) * ratios)
    heights = tf.cast(tf.round(tf.sqrt(areas * ratios)), tf.int32)
    widths = tf.cast(tf.round(tf.sqrt(areas / ratios)), tf.int32)
    tops = tf.cast(tops * tf.cast(height - heights + 1, tf.float32), tf.int32)
    lefts = tf.cast(lefts * tf.cast(width - widths + 1, tf.float32), tf.int32)
    fits = (heights < height) & (widths < width)
    boxes = tf.stack([tops, lefts, heights, widths], axis=1)
    return boxes[tf.argmax(fits)], tf.reduce_any(fits)


def _erase(image, box, seed, mean, std):
    top, left, height, width = tf.unstack(box)
    noise = tf.reshape(_noise(height, width, seed, mean, std), (height, width, 3))
    rows = image[top : top + height]
    rows = tf.concat([rows[:, :left], noise, rows[:, left + width :]], axis=1)
    erased = tf.concat([image[:top], rows, image[top + height :]], axis=0)
    return tf.ensure_shape(erased, image.shape)


def _noise(height, width, seed, mean, std):
    """Returns rows of three values a pixel: standard normal noise, its normalization undone."""
    noise = tf.random.stateless_normal(tf.stack([height, 3 * width]), seed)
    # Repeated for a row, as broadcasting three values at a time is slow.
    mean, std = (tf.tile(of_channels, [width]) for of_channels in (mean, std))
    return 255 * (mean + noise * std)
