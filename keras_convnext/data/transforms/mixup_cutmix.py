"""Mixup and CutMix as in the paper's training: the parameters are drawn once per batch.

Image i is mixed with image n - 1 - i. In a batch of odd size the middle image stays as it is, where
timm refuses the batch. Source: timm's `Mixup` in the mode `batch`.
"""

from typing import NamedTuple

import tensorflow as tf

from keras_convnext.recipe import Augment


def smooth(labels: tf.Tensor, smoothing: float) -> tf.Tensor:
    """Applies label smoothing.

    Args:
        labels: One-hot, `float32` of shape `(batch, classes)`.
        smoothing: Fraction of each label that is spread over all classes.

    Returns:
        The smoothed labels, of the same shape.
    """
    return labels * (1 - smoothing) + smoothing / labels.shape[-1]


def mix(
    images: tf.Tensor, labels: tf.Tensor, settings: Augment, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixes the images of a batch and their labels.

    Args:
        images: `float32` of shape `(batch, height, width, 3)`.
        labels: `float32` of shape `(batch, classes)`.
        settings: The section `augment` of a recipe.
        seed: Seed, an integer tensor of shape `(2,)`.

    Returns:
        The mixed images and labels, of the same shapes.
    """
    if not (settings.mixup_alpha or settings.cutmix_alpha):
        return images, labels
    params = draw(settings, seed)
    height, width = tf.unstack(tf.shape(images)[1:3])

    def unchanged():
        return images, labels

    def mixup():
        return _interpolate(images, params.lam), _interpolate(labels, params.lam)

    def cutmix():
        box = cut_box(height, width, params)
        box_fraction = (box[1] - box[0]) * (box[3] - box[2]) / (height * width)
        cut = tf.ensure_shape(_flip_within(images, box), images.shape)
        return cut, _interpolate(labels, 1 - tf.cast(box_fraction, tf.float32))

    return tf.cond(params.apply, lambda: tf.cond(params.is_cutmix, cutmix, mixup), unchanged)


class MixParams(NamedTuple):
    """The random parameters of a batch.

    Attributes:
        apply: Whether the batch is mixed.
        is_cutmix: Whether it is mixed by CutMix rather than by Mixup.
        lam: Mixup's and CutMix's lambda, the weight of an image in its mixture. For CutMix, the
            image's edge may clip the box; the labels take the area of the clipped box.
        centre: Centre of CutMix's box, as fractions of height and width in [0, 1).
    """

    apply: tf.Tensor
    is_cutmix: tf.Tensor
    lam: tf.Tensor
    centre: tf.Tensor


def draw(settings: Augment, seed: tf.Tensor) -> MixParams:
    """Draws the parameters of a batch; lambda is from the Beta distribution of Mixup or CutMix."""
    choice_seed, centre_seed, lam_seed = tf.unstack(tf.random.split(seed, 3))
    choices = tf.random.stateless_uniform((2,), choice_seed)
    if settings.mixup_alpha and settings.cutmix_alpha:
        is_cutmix = choices[1] < settings.switch_probability
    else:
        is_cutmix = tf.constant(settings.cutmix_alpha > 0)
    alpha = tf.where(is_cutmix, settings.cutmix_alpha, settings.mixup_alpha)
    return MixParams(
        choices[0] < settings.mix_probability,
        is_cutmix,
        _draw_beta(alpha, lam_seed),
        tf.random.stateless_uniform((2,), centre_seed),
    )


def _draw_beta(alpha, seed):
    """Draws from Beta(alpha, alpha), as x / (x + y) with x and y from Gamma(alpha).

    It draws the logarithms of x and y, since both underflow for a small alpha. A Gamma(alpha)
    variable is a Gamma(alpha + 1) variable times a uniform variable to the power 1 / alpha.
    """
    alpha = tf.cast(alpha, tf.float64)
    gamma_seed, uniform_seed = tf.unstack(tf.random.split(seed, 2))
    gammas = tf.random.stateless_gamma((2,), gamma_seed, alpha + 1, dtype=tf.float64)
    uniform = 1 - tf.random.stateless_uniform((2,), uniform_seed, dtype=tf.float64)
    log_x, log_y = tf.unstack(tf.math.log(gammas) + tf.math.log(uniform) / alpha)
    return tf.cast(tf.sigmoid(log_x - log_y), tf.float32)


def cut_box(height, width, params: MixParams) -> tf.Tensor:
    """Returns CutMix's box: top, bottom, left and right, `int32` of shape `(4,)`.

    Its area is 1 - lambda of the image's, unless the image's edge clips it.
    """
    sides = tf.cast(tf.stack([height, width]), tf.float32)
    lengths = tf.cast(sides * tf.sqrt(1 - params.lam), tf.int32)
    centre = tf.cast(sides * params.centre, tf.int32)
    start = tf.maximum(centre - lengths // 2, 0)
    end = tf.minimum(centre + (lengths + 1) // 2, tf.stack([height, width]))
    return tf.stack([start[0], end[0], start[1], end[1]])


def _flip_within(images, box):
    """Replaces the box of each image by its partner's; three times as fast as `tf.where`."""
    top, bottom, left, right = tf.unstack(box)
    rows = images[:, top:bottom]
    inside = _flip(rows[:, :, left:right])
    rows = tf.concat([rows[:, :, :left], inside, rows[:, :, right:]], axis=2)
    return tf.concat([images[:, :top], rows, images[:, bottom:]], axis=1)


def _interpolate(values, lam):
    return lam * values + (1 - lam) * _flip(values)


def _flip(batch):
    return tf.reverse(batch, [0])  # twenty times faster than [::-1]
