"""The policy `keras_cv`: KerasCV's RandAugment, Mixup and CutMix.

KerasCV's layers run inside tf.data on every backend. They draw from TensorFlow's stateful random
generators and follow Keras's dtype policy. Here the generators are seeded by `seed_draws` and the
layers compute in float32. A pipeline that is rebuilt repeats its draws if `seed_draws` is called
before and the functions are not mapped in parallel.

What it costs beside the policy `paper`: maps that are not parallel, the recomputation of earlier
batches when a run resumes, and operations that differ from those the paper's networks were trained
with. KerasCV blends without rounding to 8 bits, resamples bilinearly, and has no inverting,
posterizing, sharpening or rotating.
"""

import contextlib
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_convnext.errors import MissingPackage
from keras_convnext.recipe import Augment, RandAugment

VALUE_RANGE = (0, 255)
# KerasCV's standard policy lists six colour operations, then two shears and two translations.
COLOUR_OPERATIONS = 6


def seed_draws(seed: int) -> None:
    """Seeds the draws of KerasCV's layers and pipelines that are built afterwards."""
    tf.random.set_seed(seed)
    tf.random.set_global_generator(tf.random.Generator.from_seed(seed))


def image_augmenter(settings: RandAugment, seed: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function that augments one image.

    Args:
        settings: The section `augment.rand_augment` of a recipe.
        seed: Seed of the layer's generators.

    Returns:
        A function from an image, `float32` of shape `(height, width, 3)` with values from 0 to 255,
        to an image of the same shape. If it is mapped in parallel, its draws are not reproducible.

    Raises:
        MissingPackage: If KerasCV is not installed.
    """
    with _float32_layers():
        layers = _keras_cv().layers
        policy = layers.RandAugment.get_standard_policy(
            VALUE_RANGE, settings.magnitude, settings.magnitude_std, seed=seed
        )
        chosen = {
            "all": policy,
            "colour": policy[:COLOUR_OPERATIONS],
            "geometric": policy[COLOUR_OPERATIONS:],
        }
        layer = layers.RandomAugmentationPipeline(
            chosen[settings.kinds], settings.operations, rate=settings.probability, seed=seed
        )

    def augment(image):
        return tf.ensure_shape(layer(image), image.shape)

    return augment


def batch_mixer(
    settings: Augment, seed: int
) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]] | None:
    """Returns a function that mixes the images of a batch and their labels.

    Args:
        settings: The section `augment` of a recipe.
        seed: Seed of the layers' generators.

    Returns:
        A function from and to images `(batch, height, width, 3)` and one-hot labels
        `(batch, classes)`, both `float32`; or `None` if both Mixup and CutMix are off. If it is
        mapped in parallel, its draws are not reproducible.

    Raises:
        MissingPackage: If KerasCV is not installed.
    """
    cutmix_probability = _cutmix_probability(settings)
    if cutmix_probability is None or settings.mix_probability == 0:
        return None
    with _float32_layers():
        # A layer whose alpha is 0 is never called, but it cannot be constructed with 0.
        mixup = _keras_cv().layers.MixUp(settings.mixup_alpha or 1.0, seed=seed)
        cutmix = _keras_cv().layers.CutMix(settings.cutmix_alpha or 1.0, seed=seed)

    def mix(images, labels):
        batch = {"images": images, "labels": labels}
        draws = tf.random.uniform((2,), seed=seed)
        mixed = tf.cond(
            draws[0] < settings.mix_probability,
            lambda: tf.cond(
                draws[1] < cutmix_probability, lambda: cutmix(batch), lambda: mixup(batch)
            ),
            lambda: batch,
        )
        return (
            tf.ensure_shape(mixed["images"], images.shape),
            tf.ensure_shape(mixed["labels"], labels.shape),
        )

    return mix


def _cutmix_probability(settings: Augment) -> float | None:
    """Returns the probability that a mixed batch is mixed by CutMix; `None` if both are off."""
    if settings.mixup_alpha and settings.cutmix_alpha:
        return settings.switch_probability
    if settings.cutmix_alpha:
        return 1.0
    return 0.0 if settings.mixup_alpha else None


def _keras_cv():
    try:
        import keras_cv
    except ImportError:
        raise MissingPackage("KerasCV, which augments the images,", "train") from None
    return keras_cv


@contextlib.contextmanager
def _float32_layers():
    """Within, layers are built with the dtype policy float32, whatever the network's policy."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
