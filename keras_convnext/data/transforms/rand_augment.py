"""RandAugment as in the paper's training: timm's `rand-m9-mstd0.5-inc1`.

The draws depend on a stateless seed only, so images can be augmented in parallel and in any order.
Source: timm's `auto_augment.py`, whose magnitudes from 0 to 10 are 0 to 1 here.
"""

from typing import NamedTuple

import tensorflow as tf

from keras_convnext.data.transforms import pillow_ops as pillow
from keras_convnext.recipe import RandAugment


def rand_augment(image: tf.Tensor, settings: RandAugment, seed: tf.Tensor) -> tf.Tensor:
    """Applies random operations to an image, one after the other.

    Args:
        image: `float32` of shape `(height, width, 3)`, whole numbers from 0 to 255.
        settings: The section `augment.rand_augment` of a recipe.
        seed: Seed, an integer tensor of shape `(2,)`.

    Returns:
        The augmented image, of the same type and shape.
    """
    params = draw(settings, seed)
    operations = list(OPERATIONS[settings.kinds].values())
    image = tf.cast(image, tf.uint8)
    for number, level in zip(tf.unstack(params.numbers), tf.unstack(params.levels), strict=True):
        branches = [_branch(operation, image, level) for operation in operations]
        image = tf.switch_case(number, [*branches, lambda image=image: image])
    return tf.cast(image, tf.float32)


def _branch(operation, image, level):
    return lambda: operation(image, level)


class AugmentParams(NamedTuple):
    """The random parameters of an image.

    Attributes:
        numbers: `int32` of shape `(operations,)`, the index of each operation, or the number of
            operations where none is applied.
        levels: `float64` of shape `(operations,)`, the magnitude of each operation, negative for
            the opposite direction, from -1 to 1.
    """

    numbers: tf.Tensor
    levels: tf.Tensor


def draw(settings: RandAugment, seed: tf.Tensor) -> AugmentParams:
    """Draws the parameters of an image.

    Operations are drawn uniformly with replacement, and each is applied with the probability
    `settings.probability`. Its magnitude is drawn from a normal distribution around
    `settings.magnitude` and clipped to [0, 1]. Both directions are equally likely.
    """
    shape = (settings.operations,)
    seeds = tf.unstack(tf.random.split(seed, 4))
    count = len(OPERATIONS[settings.kinds])
    numbers = tf.random.stateless_uniform(shape, seeds[0], 0, count, tf.int32)
    is_applied = tf.random.stateless_uniform(shape, seeds[1]) < settings.probability
    strengths = tf.random.stateless_normal(
        shape, seeds[2], settings.magnitude, settings.magnitude_std, tf.float64
    )
    is_positive = tf.random.stateless_uniform(shape, seeds[3]) < 0.5
    signs = tf.where(is_positive, tf.constant(1, tf.float64), -1)
    return AugmentParams(
        tf.where(is_applied, numbers, count), signs * tf.clip_by_value(strengths, 0.0, 1.0)
    )


# The operations take an image, `uint8` of shape `(height, width, 3)`, and a level from -1 to 1, and
# return an image. Operations without a direction use the absolute value of the level.


def auto_contrast(image, level):
    """Stretches the histogram; the level has no effect."""
    return pillow.autocontrast(image)


def equalize(image, level):
    """Equalizes the histogram; the level has no effect."""
    return pillow.equalize(image)


def invert(image, level):
    """Inverts the values, whatever the level."""
    return pillow.invert(image)


def posterize(image, level):
    """Keeps the 4 highest bits at level 0, and none at 1."""
    return pillow.posterize(image, 4 - _truncate(4 * abs(level)))


def solarize(image, level):
    """Inverts no values at level 0, and all at 1."""
    return pillow.solarize(image, 256 - _truncate(256 * abs(level)))


def solarize_add(image, level):
    """Adds up to 110 to dark values."""
    return pillow.solarize_add(image, _truncate(110 * abs(level)))


def color(image, level):
    """Increases or decreases saturation."""
    return pillow.color(image, _enhancement(level))


def contrast(image, level):
    """Increases or decreases contrast."""
    return pillow.contrast(image, _enhancement(level))


def brightness(image, level):
    """Increases or decreases brightness."""
    return pillow.brightness(image, _enhancement(level))


def sharpness(image, level):
    """Sharpens or smooths the image."""
    return pillow.sharpness(image, _enhancement(level))


def rotate(image, level):
    """Rotates the image by up to 30 degrees."""
    return pillow.rotate(image, 30 * level)


def shear_x(image, level):
    """Shears the image horizontally by up to 0.3."""
    return pillow.shear_x(image, 0.3 * level)


def shear_y(image, level):
    """Shears the image vertically by up to 0.3."""
    return pillow.shear_y(image, 0.3 * level)


def translate_x(image, level):
    """Translates the image by up to 0.45 of its width."""
    return pillow.translate_x(image, 0.45 * level * _length(image, 1))


def translate_y(image, level):
    """Translates the image by up to 0.45 of its height."""
    return pillow.translate_y(image, 0.45 * level * _length(image, 0))


def _truncate(number):
    """Rounds towards zero."""
    return tf.cast(number, tf.int32)


def _length(image, axis):
    return tf.cast(tf.shape(image)[axis], tf.float64)


def _enhancement(level):
    """Returns the factor of Pillow's enhancers, from 0.1 to 1.9; 1 changes nothing."""
    return tf.maximum(1 + 0.9 * level, 0.1)


# By timm's names.
_COLOUR = {
    "AutoContrast": auto_contrast,
    "Equalize": equalize,
    "Invert": invert,
    "PosterizeIncreasing": posterize,
    "SolarizeIncreasing": solarize,
    "SolarizeAdd": solarize_add,
    "ColorIncreasing": color,
    "ContrastIncreasing": contrast,
    "BrightnessIncreasing": brightness,
    "SharpnessIncreasing": sharpness,
}
_GEOMETRIC = {
    "Rotate": rotate,
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateXRel": translate_x,
    "TranslateYRel": translate_y,
}
OPERATIONS = {"all": {**_COLOUR, **_GEOMETRIC}, "colour": _COLOUR, "geometric": _GEOMETRIC}
