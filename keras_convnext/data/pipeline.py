"""The tf.data pipelines that feed `model.fit`, `evaluate` and `predict`, on any backend."""

import keras
import tensorflow as tf

from keras_convnext.data import augmentation
from keras_convnext.data.mixing import mix, smooth
from keras_convnext.data.preprocessing import evaluation_image, random_flip, random_resized_crop
from keras_convnext.data.rand_augment import rand_augment
from keras_convnext.data.random_erasing import random_erasing
from keras_convnext.data.sources import Split
from keras_convnext.data.trivial_augment import trivial_augment
from keras_convnext.recipe import Augment, Data


def training_dataset(
    split: Split, data: Data, augment: Augment, epochs: int, seed: int, start: int = 0
) -> tf.data.Dataset:
    """Returns the batches of a whole training run, one epoch after another.

    Under the policy `paper` an image follows from `(seed, position in the run)` and the mixing of a
    batch from `(seed, its number)`, so batches are the same wherever the run starts. Under
    `keras_cv` that is true of order, crop and flip; KerasCV's draws repeat when the pipeline is
    built and run again from the same start. Every epoch shuffles anew, and leaves out the images
    that do not fill its last batch.

    Args:
        split: The training images.
        data: Size and batch.
        augment: What happens to them.
        epochs: Passes over the images; pass `steps_per_epoch` to `model.fit`.
        seed: Seed of the order and of the augmentation.
        start: Number of the batch to start with.

    Returns:
        A dataset of `epochs * (images // batch_size)` batches, less those before `start`: images
        `float32` of shape `(batch, size, size, 3)` with values from 0 to 255 (beyond them where
        erased), and targets `float32` of shape `(batch, classes)`, smoothed by
        `augment.smoothing_in_targets`.
    """
    _keep_off_the_gpu()
    per_epoch = len(split.labels) // data.batch_size * data.batch_size
    labels = tf.constant(split.labels)
    last_index = len(split.labels) - 1

    def load(position):
        epoch, place = position // per_epoch, position % per_epoch
        index = tf.random.experimental.index_shuffle(place, tf.stack([seed, epoch]), last_index)
        image = _load_image(split.image(index), data, augment, _seed(seed, position))
        return image, labels[index]

    dataset = tf.data.Dataset.range(start * data.batch_size, epochs * per_epoch)
    dataset = _map_in_parallel(dataset, load)
    if augment.policy == "keras_cv":
        augmentation.seed_draws(seed)
        dataset = _augmented_by_keras_cv(dataset, augment, seed)
    dataset = _batched(dataset, split, data.batch_size, drop_remainder=True)
    if augment.policy == "keras_cv":
        dataset = _mixed_by_keras_cv(dataset, augment, seed)
    else:
        dataset = _mixed(dataset, augment, seed, start)
    return dataset.prefetch(tf.data.AUTOTUNE)


def evaluation_dataset(
    split: Split,
    image_size: int,
    crop_fraction: float,
    batch_size: int = 64,
    label_smoothing: float = 0.0,
) -> tf.data.Dataset:
    """Returns every image of a split once, in order, prepared as the network is evaluated.

    Args:
        split: The images.
        image_size: Height and width of the results, in pixels.
        crop_fraction: The centre crop's share of the resized image, below 384 pixels.
        batch_size: Images in a batch.
        label_smoothing: Share of the targets spread over all classes, so that the loss means what
            it means in training. Leave it at 0 for labels.

    Returns:
        A dataset of images `float32` of shape `(batch, size, size, 3)` with values from 0 to 255,
        and one-hot labels `(batch, classes)`; the last batch may be smaller.
    """
    _keep_off_the_gpu()
    labels = tf.constant(split.labels)

    def load(index):
        return evaluation_image(split.image(index), image_size, crop_fraction), labels[index]

    dataset = _map_in_parallel(tf.data.Dataset.range(len(split.labels)), load)
    dataset = _batched(dataset, split, batch_size, drop_remainder=False)
    if label_smoothing:
        dataset = dataset.map(lambda images, labels: (images, smooth(labels, label_smoothing)))
    return dataset.prefetch(tf.data.AUTOTUNE)


def _seed(seed, number):
    return tf.stack([tf.constant(seed, tf.int64), number])


def _load_image(image, data, augment, seed):
    """Brings a training image to its size and does what one image alone can be done."""
    crop_seed, flip_seed, augment_seed, erasing_seed = tf.unstack(tf.random.split(seed, 4))
    if augment.random_resized_crop is None:
        image = evaluation_image(image, data.image_size, data.crop_fraction)
    else:
        crop = augment.random_resized_crop
        image = random_resized_crop(image, data.image_size, crop.area, crop.ratio, crop_seed)
    image = random_flip(image, augment.horizontal_flip, flip_seed)
    if augment.policy == "paper" and augment.rand_augment is not None:
        image = rand_augment(image, augment.rand_augment, augment_seed)
    if augment.trivial_augment:
        image = trivial_augment(image, augment_seed)
    if augment.random_erasing:
        image = random_erasing(image, augment.random_erasing, erasing_seed)
    return image


def _mixed(dataset, augment, seed, start):
    def mix_batch(number, batch):
        images, labels = batch
        # Images have the numbers from 0 on, and batches those below: no two share their draws.
        targets = smooth(labels, augment.smoothing_in_targets)
        return mix(images, targets, augment, _seed(seed, -1 - number))

    return _map_in_parallel(dataset.enumerate(start), mix_batch)


def _augmented_by_keras_cv(dataset, augment, seed):
    if augment.rand_augment is None:
        return dataset
    augment_image = augmentation.image_augmenter(augment.rand_augment, seed)
    return dataset.map(lambda image, label: (augment_image(image), label))


def _mixed_by_keras_cv(dataset, augment, seed):
    mix_batch = augmentation.batch_mixer(augment, seed)
    return dataset if mix_batch is None else dataset.map(mix_batch)


def _map_in_parallel(dataset, function):
    return dataset.map(function, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _batched(dataset, split, batch_size, drop_remainder):
    classes = len(split.class_names)
    return _map_in_parallel(
        dataset.batch(batch_size, drop_remainder=drop_remainder),
        lambda images, labels: (images, tf.one_hot(labels, classes)),
    )


def _keep_off_the_gpu():
    """Leaves the GPU to the backend: TensorFlow would take its whole memory for the pipeline."""
    if keras.backend.backend() != "tensorflow":
        tf.config.set_visible_devices([], "GPU")
