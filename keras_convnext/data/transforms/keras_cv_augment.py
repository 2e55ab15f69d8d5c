"""RandAugment, Mixup and CutMix, as KerasCV does them.

KerasCV's layers run inside tf.data on every backend, but draw from TensorFlow's stateful generators
and take Keras's dtype policy. Both are fixed here: with `seed_draws` before the pipeline is built,
and with maps that are not parallel, a pipeline built again repeats its draws.
"""

import contextlib
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_convnext.errors import MissingPackage
from keras_convnext.recipe import Augment, RandAugment

VALUE_RANGE = (0, 255)
# KerasCV's standard policy lists six operations on the values first, then two shears and two
# translations.
COLOUR_OPERATIONS = 6


def seed_draws(seed: int) -> None:
    """Fixes what KerasCV's layers draw, in the layers and pipelines built from now on."""
    tf.random.set_seed(seed)
    tf.random.set_global_generator(tf.random.Generator.from_seed(seed))


def image_augmenter(settings: RandAugment, seed: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function that augments one image.

    Args:
        settings: How many operations, and how strong.
        seed: Seed of the layer's own generators.

    Returns:
        A function from and to `float32` of shape `(height, width, 3)`, values from 0 to 255. It
        must not be mapped in parallel, or its draws do not repeat.
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
    """Returns a function that mixes the images of a batch, and their labels likewise.

    Args:
        settings: The strengths of Mixup and CutMix and how often either is taken.
        seed: Seed of the layers' own generators.

    Returns:
        A function from and to images `(batch, height, width, 3)` and one-hot labels
        `(batch, classes)`, both `float32`, not to be mapped in parallel; or `None` if the settings
        turn both off.
    """
    cutmix_share = _cutmix_share(settings)
    if cutmix_share is None or settings.mix_probability == 0:
        return None
    with _float32_layers():
        # A layer whose alpha is 0 is never called, but must not be built with it.
        mixup = _keras_cv().layers.MixUp(settings.mixup_alpha or 1.0, seed=seed)
        cutmix = _keras_cv().layers.CutMix(settings.cutmix_alpha or 1.0, seed=seed)

    def mix(images, labels):
        batch = {"images": images, "labels": labels}
        draws = tf.random.uniform((2,), seed=seed)
        mixed = tf.cond(
            draws[0] < settings.mix_probability,
            lambda: tf.cond(draws[1] < cutmix_share, lambda: cutmix(batch), lambda: mixup(batch)),
            lambda: batch,
        )
        return (
            tf.ensure_shape(mixed["images"], images.shape),
            tf.ensure_shape(mixed["labels"], labels.shape),
        )

    return mix


def _cutmix_share(settings: Augment) -> float | None:
    """Share of CutMix among the mixed batches; `None` if neither of the two is on."""
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
    """Layers built within compute in float32, whatever the policy of the network is."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
