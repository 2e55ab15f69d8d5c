"""TrivialAugmentWide as in torchvision's reference recipes.

One operation is applied to each image, with one of 31 magnitudes. Geometric operations resample
bilinearly and fill with black. The draws depend on a stateless seed only, so images can be
augmented in parallel and in any order. Source: torchvision's `TrivialAugmentWide`; Mueller and
Hutter, arXiv:2103.10158.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_convnext.data.transforms import pillow_ops as pillow
from keras_convnext.data.transforms.affine import BILINEAR

BINS = 31
BLACK = (0, 0, 0)


def trivial_augment(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Applies one random operation to an image.

    Args:
        image: `float32` of shape `(height, width, 3)`, whole numbers from 0 to 255.
        seed: Seed, an integer tensor of shape `(2,)`.

    Returns:
        The augmented image, of the same type and shape.
    """
    number, magnitude = draw(seed)
    image = tf.cast(image, tf.uint8)
    branches = [_branch(operation, image, magnitude) for operation in OPERATIONS.values()]
    return tf.cast(tf.switch_case(number, branches), tf.float32)


def _branch(operation, image, magnitude):
    return lambda: operation.apply(image, magnitude)


class AugmentParams(NamedTuple):
    """The random parameters of an image.

    Attributes:
        number: `int32` scalar, the index of the operation.
        magnitude: `float64` scalar, its magnitude, negative for the opposite direction.
    """

    number: tf.Tensor
    magnitude: tf.Tensor


def draw(seed: tf.Tensor) -> AugmentParams:
    """Draws an operation, one of its magnitudes and its direction, each uniformly."""
    seeds = tf.unstack(tf.random.split(seed, 3))
    number = tf.random.stateless_uniform((), seeds[0], 0, len(OPERATIONS), tf.int32)
    place = tf.random.stateless_uniform((), seeds[1], 0, BINS, tf.int32)
    is_negative = tf.random.stateless_uniform((), seeds[2]) < 0.5
    operations = OPERATIONS.values()
    magnitudes = tf.constant(np.stack([operation.magnitudes for operation in operations]))
    magnitude = magnitudes[number, place]
    is_signed = tf.constant([operation.is_signed for operation in operations])[number]
    return AugmentParams(number, tf.where(is_negative & is_signed, -magnitude, magnitude))


class Operation(NamedTuple):
    """An operation that can be drawn.

    Attributes:
        apply: A function of an image, `uint8` of shape `(height, width, 3)`, and a magnitude.
        magnitudes: The possible magnitudes, from the weakest to the strongest.
        is_signed: Whether the magnitude is negated with a probability of one half.
    """

    apply: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    magnitudes: np.ndarray
    is_signed: bool


def identity(image, magnitude):
    """Returns the image unchanged."""
    return image


def shear_x(image, factor):
    """Shears the image horizontally."""
    return pillow.shear_x(image, factor, BILINEAR, BLACK)


def shear_y(image, factor):
    """Shears the image vertically."""
    return pillow.shear_y(image, factor, BILINEAR, BLACK)


def translate_x(image, pixels):
    """Translates the image to the right by whole pixels."""
    return pillow.translate_x(image, -_truncate(pixels), BILINEAR, BLACK)


def translate_y(image, pixels):
    """Translates the image down by whole pixels."""
    return pillow.translate_y(image, -_truncate(pixels), BILINEAR, BLACK)


def rotate(image, degrees):
    """Rotates the image counter-clockwise."""
    return pillow.rotate(image, degrees, BILINEAR, BLACK)


def brightness(image, strength):
    """Increases or decreases brightness."""
    return pillow.brightness(image, 1 + strength)


def color(image, strength):
    """Increases or decreases saturation."""
    return pillow.color(image, 1 + strength)


def contrast(image, strength):
    """Increases or decreases contrast."""
    return pillow.contrast(image, 1 + strength)


def sharpness(image, strength):
    """Sharpens or smooths the image."""
    return pillow.sharpness(image, 1 + strength)


def auto_contrast(image, magnitude):
    """Stretches the histogram; the magnitude has no effect."""
    return pillow.autocontrast(image)


def equalize(image, magnitude):
    """Equalizes the histogram; the magnitude has no effect."""
    return pillow.equalize(image)


def _truncate(number):
    """Rounds towards zero."""
    return tf.cast(tf.cast(number, tf.int32), tf.float64)


def _up_to(greatest: float, start: float = 0.0) -> np.ndarray:
    """Returns evenly spaced magnitudes, equal to torchvision's in every bit of `float32`.

    PyTorch computes the upper half of `linspace` backwards from its end. The middle translation is
    therefore just below 16 pixels, which truncates to 15.
    """
    ends = np.array([start, greatest], np.float32).astype(np.float64)
    step = float(np.float32((ends[1] - ends[0]) / (BINS - 1)))
    places = np.arange(BINS)
    upwards, downwards = ends[0] + step * places, ends[1] - step * places[::-1]
    magnitudes = np.where(places < BINS // 2, upwards, downwards)
    return magnitudes.astype(np.float32).astype(np.float64)


# By torchvision's names.
OPERATIONS = {
    "Identity": Operation(identity, _up_to(0), False),
    "ShearX": Operation(shear_x, _up_to(0.99), True),
    "ShearY": Operation(shear_y, _up_to(0.99), True),
    "TranslateX": Operation(translate_x, _up_to(32), True),
    "TranslateY": Operation(translate_y, _up_to(32), True),
    "Rotate": Operation(rotate, _up_to(135), True),
    "Brightness": Operation(brightness, _up_to(0.99), True),
    "Color": Operation(color, _up_to(0.99), True),
    "Contrast": Operation(contrast, _up_to(0.99), True),
    "Sharpness": Operation(sharpness, _up_to(0.99), True),
    "Posterize": Operation(pillow.posterize, 8 - np.round(np.arange(BINS) / 5), False),
    "Solarize": Operation(pillow.solarize, _up_to(0, start=255), False),
    "AutoContrast": Operation(auto_contrast, _up_to(0), False),
    "Equalize": Operation(equalize, _up_to(0), False),
}
