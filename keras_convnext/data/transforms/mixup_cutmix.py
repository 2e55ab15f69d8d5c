"""Mixup and CutMix as the paper trains with them, one draw for a whole batch.

Each image is mixed with the one as far from the batch's other end; in an odd batch the middle one
stays as it is, where timm refuses the batch. Source: timm's `Mixup` in the mode `batch`.
"""

from typing import NamedTuple

import tensorflow as tf

from keras_convnext.recipe import Augment


def smooth(labels: tf.Tensor, share: float) -> tf.Tensor:
    """Takes a share of each label and spreads it over all classes.

    Args:
        labels: One-hot, `float32` of shape `(batch, classes)`.
        share: What is spread, from 0 to 1.
    """
    return labels * (1 - share) + share / labels.shape[-1]


def mix(
    images: tf.Tensor, labels: tf.Tensor, settings: Augment, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixes the images of a batch, and their labels likewise.

    Args:
        images: `float32` of shape `(batch, height, width, 3)`.
        labels: `float32` of shape `(batch, classes)`.
        settings: The strengths of Mixup and CutMix and how often either is taken.
        seed: Two integers; the same seed mixes the same.

    Returns:
        The likes of `images` and `labels`.
    """
    if not (settings.mixup_alpha or settings.cutmix_alpha):
        return images, labels
    draws = draw(settings, seed)
    height, width = tf.unstack(tf.shape(images)[1:3])

    def as_before():
        return images, labels

    def mixup():
        return _between(images, draws.own_share), _between(labels, draws.own_share)

    def cutmix():
        box = cut_box(height, width, draws)
        cut_share = (box[1] - box[0]) * (box[3] - box[2]) / (height * width)
        cut = tf.ensure_shape(_flipped_within(images, box), images.shape)
        return cut, _between(labels, 1 - tf.cast(cut_share, tf.float32))

    return tf.cond(draws.is_mixed, lambda: tf.cond(draws.is_cutmix, cutmix, mixup), as_before)


class Draws(NamedTuple):
    """How a batch is mixed.

    Attributes:
        is_mixed: Whether at all.
        is_cutmix: By CutMix, or else by Mixup.
        own_share: Each image's share in its mixture, before CutMix's box is cut off.
        centre: Where CutMix's box has its centre: shares of height and width, below 1.
    """

    is_mixed: tf.Tensor
    is_cutmix: tf.Tensor
    own_share: tf.Tensor
    centre: tf.Tensor


def draw(settings: Augment, seed: tf.Tensor) -> Draws:
    """Draws how a batch is mixed; the share is from the Beta distribution of the kind drawn."""
    choice_seed, centre_seed, share_seed = tf.unstack(tf.random.split(seed, 3))
    choices = tf.random.stateless_uniform((2,), choice_seed)
    if settings.mixup_alpha and settings.cutmix_alpha:
        is_cutmix = choices[1] < settings.switch_probability
    else:
        is_cutmix = tf.constant(settings.cutmix_alpha > 0)
    alpha = tf.where(is_cutmix, settings.cutmix_alpha, settings.mixup_alpha)
    return Draws(
        choices[0] < settings.mix_probability,
        is_cutmix,
        _draw_beta(alpha, share_seed),
        tf.random.stateless_uniform((2,), centre_seed),
    )


def _draw_beta(alpha, seed):
    """Draws from Beta(alpha, alpha), as the share of one Gamma(alpha) in the sum of two.

    Their logarithms are drawn, as for a small alpha both would vanish: a Gamma(alpha) is a
    Gamma(alpha + 1) times a uniform number to the power of 1 / alpha.
    """
    alpha = tf.cast(alpha, tf.float64)
    gamma_seed, uniform_seed = tf.unstack(tf.random.split(seed, 2))
    gammas = tf.random.stateless_gamma((2,), gamma_seed, alpha + 1, dtype=tf.float64)
    uniform = 1 - tf.random.stateless_uniform((2,), uniform_seed, dtype=tf.float64)
    own, other = tf.unstack(tf.math.log(gammas) + tf.math.log(uniform) / alpha)
    return tf.cast(tf.sigmoid(own - other), tf.float32)


def cut_box(height, width, draws: Draws) -> tf.Tensor:
    """Returns CutMix's box: top, bottom, left, right, `int32` of shape `(4,)`.

    It takes the other image's share of the area unless the image's edge cuts it off.
    """
    sides = tf.cast(tf.stack([height, width]), tf.float32)
    lengths = tf.cast(sides * tf.sqrt(1 - draws.own_share), tf.int32)
    centre = tf.cast(sides * draws.centre, tf.int32)
    start = tf.maximum(centre - lengths // 2, 0)
    end = tf.minimum(centre + (lengths + 1) // 2, tf.stack([height, width]))
    return tf.stack([start[0], end[0], start[1], end[1]])


def _flipped_within(images, box):
    """Gives every image what its partner has within the box; three times as fast as `tf.where`."""
    top, bottom, left, right = tf.unstack(box)
    rows = images[:, top:bottom]
    inside = _flipped(rows[:, :, left:right])
    rows = tf.concat([rows[:, :, :left], inside, rows[:, :, right:]], axis=2)
    return tf.concat([images[:, :top], rows, images[:, bottom:]], axis=1)


def _between(values, own_share):
    return own_share * values + (1 - own_share) * _flipped(values)


def _flipped(batch):
    return tf.reverse(batch, [0])  # twenty times faster than [::-1]
