"""The tf.data pipelines that feed `model.fit`, `evaluate` and `predict`, on any backend."""

import keras
import tensorflow as tf

from keras_convnext.data import augmentation
from keras_convnext.data.preprocessing import evaluation_image, random_flip, random_resized_crop
from keras_convnext.data.sources import Split
from keras_convnext.recipe import Augment, Data


def training_dataset(
    split: Split, data: Data, augment: Augment, epochs: int, seed: int
) -> tf.data.Dataset:
    """Returns the batches of a whole training run, one epoch after another.

    Order, crop and flip of an image follow from `(seed, epoch, position)` alone; KerasCV's draws
    repeat when the pipeline is built and run again from its start. Every epoch shuffles anew, and
    leaves out the images that do not fill its last batch.

    Args:
        split: The training images.
        data: Size and batch.
        augment: What happens to them.
        epochs: Passes over the images; pass `steps_per_epoch` to `model.fit`.
        seed: Seed of the order and of the augmentation.

    Returns:
        A dataset of `epochs * (images // batch_size)` batches: images `float32` of shape
        `(batch, size, size, 3)` with values from 0 to 255, and one-hot labels `(batch, classes)`.
    """
    _keep_off_the_gpu()
    augmentation.seed_draws(seed)
    per_epoch = len(split.labels) // data.batch_size * data.batch_size
    labels = tf.constant(split.labels)
    last_index = len(split.labels) - 1

    def load(position):
        epoch, place = position // per_epoch, position % per_epoch
        index = tf.random.experimental.index_shuffle(place, tf.stack([seed, epoch]), last_index)
        crop_seed, flip_seed = tf.unstack(
            tf.random.split(tf.stack([tf.constant(seed, tf.int64), position]), 2)
        )
        image = split.image(index)
        if augment.random_resized_crop is None:
            image = evaluation_image(image, data.image_size, data.crop_fraction)
        else:
            crop = augment.random_resized_crop
            image = random_resized_crop(image, data.image_size, crop.area, crop.ratio, crop_seed)
        return random_flip(image, augment.horizontal_flip, flip_seed), labels[index]

    dataset = tf.data.Dataset.range(epochs * per_epoch)
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE)
    if augment.rand_augment is not None:
        augment_image = augmentation.image_augmenter(augment.rand_augment, seed)
        dataset = dataset.map(lambda image, label: (augment_image(image), label))
    dataset = _batched(dataset, split, data.batch_size, drop_remainder=True)
    mix = augmentation.batch_mixer(augment, seed)
    if mix is not None:
        dataset = dataset.map(mix)
    return dataset.prefetch(tf.data.AUTOTUNE)


def evaluation_dataset(
    split: Split, image_size: int, crop_fraction: float, batch_size: int = 64
) -> tf.data.Dataset:
    """Returns every image of a split once, in order, prepared as the network is evaluated.

    Args:
        split: The images.
        image_size: Height and width of the results, in pixels.
        crop_fraction: The centre crop's share of the resized image, below 384 pixels.
        batch_size: Images in a batch.

    Returns:
        A dataset of images `float32` of shape `(batch, size, size, 3)` with values from 0 to 255,
        and one-hot labels `(batch, classes)`; the last batch may be smaller.
    """
    _keep_off_the_gpu()
    labels = tf.constant(split.labels)

    def load(index):
        return evaluation_image(split.image(index), image_size, crop_fraction), labels[index]

    dataset = tf.data.Dataset.range(len(split.labels))
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = _batched(dataset, split, batch_size, drop_remainder=False)
    return dataset.prefetch(tf.data.AUTOTUNE)


def _batched(dataset, split, batch_size, drop_remainder):
    classes = len(split.class_names)
    return dataset.batch(batch_size, drop_remainder=drop_remainder).map(
        lambda images, labels: (images, tf.one_hot(labels, classes))
    )


def _keep_off_the_gpu():
    """Leaves the GPU to the backend: TensorFlow would take its whole memory for the pipeline."""
    if keras.backend.backend() != "tensorflow":
        tf.config.set_visible_devices([], "GPU")
