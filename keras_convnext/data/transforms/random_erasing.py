"""Random erasing as in the paper's training: a rectangle of the image is replaced by noise.

Source: timm's `RandomErasing` in the mode `pixel`, with one rectangle per image.
"""

import math
from collections.abc import Sequence

import tensorflow as tf

from keras_convnext.catalog.preprocessing import OFFICIAL

# Minimum and maximum: the rectangle's fraction of the image's area, and its height / width.
AREA = (0.02, 1 / 3)
RATIO = (0.3, 1 / 0.3)
# Number of rectangles drawn; if none fits into the image, nothing is erased.
TRIES = 10


def random_erasing(
    image: tf.Tensor,
    probability: float,
    seed: tf.Tensor,
    mean: Sequence[float] = OFFICIAL.mean,
    std: Sequence[float] = OFFICIAL.std,
) -> tf.Tensor:
    """Replaces a rectangle of the image by noise, with a probability.

    After the network has normalized the image by `mean` and `std`, the noise is standard normal.
    Before, its values may lie outside of 0 to 255.

    Args:
        image: `float32` of shape `(height, width, 3)`, values from 0 to 255.
        probability: The probability. The image also stays unchanged if no rectangle fits.
        seed: Seed, an integer tensor of shape `(2,)`.
        mean: Mean of each channel that the network subtracts, on a scale of 0 to 1. Defaults to
            ImageNet's.
        std: Standard deviation of each channel that the network divides by, on the same scale.
            Defaults to ImageNet's.

    Returns:
        The image, of the same type and shape.
    """
    decision_seed, box_seed, noise_seed = tf.unstack(tf.random.split(seed, 3))
    height, width = tf.unstack(tf.shape(image)[:2])
    box, fits = draw_box(height, width, box_seed)
    is_erased = fits & (tf.random.stateless_uniform((), decision_seed) < probability)
    return tf.cond(is_erased, lambda: _erase(image, box, noise_seed, mean, std), lambda: image)


def draw_box(height, width, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws the rectangle to erase: its area uniformly, its aspect ratio log-uniformly.

    Args:
        height: The image's height, in pixels.
        width: The image's width, in pixels.
        seed: Seed, an integer tensor of shape `(2,)`.

    Returns:
        Top, left, height and width of the first of ten rectangles that is smaller than the image in
        both directions, `int32` of shape `(4,)`; and whether there is one.
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
    """Returns noise that is standard normal after normalization, `(height, 3 * width)`."""
    noise = tf.random.stateless_normal(tf.stack([height, 3 * width]), seed)
    # Tiled to a row, since broadcasting along an innermost axis of length 3 is slow.
    mean, std = (tf.tile(of_channels, [width]) for of_channels in (mean, std))
    return 255 * (mean + noise * std)
