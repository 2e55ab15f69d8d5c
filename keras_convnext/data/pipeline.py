"""The tf.data pipelines that feed `model.fit`, `evaluate` and `predict`, on any backend."""

import keras
import tensorflow as tf

from keras_convnext.catalog.preprocessing import OFFICIAL, Preprocessing
from keras_convnext.data.pixels import in_channels, refuse_files
from keras_convnext.data.sources.load import Split
from keras_convnext.data.transforms import keras_cv_augment
from keras_convnext.data.transforms.mixup_cutmix import mix, smooth
from keras_convnext.data.transforms.rand_augment import rand_augment
from keras_convnext.data.transforms.random_erasing import random_erasing
from keras_convnext.data.transforms.resize_crop import (
    draw_crop,
    evaluation_image,
    random_crop,
    random_flip,
    resize,
)
from keras_convnext.data.transforms.trivial_augment import trivial_augment
from keras_convnext.errors import DataError
from keras_convnext.recipe import Augment, Data


def training_dataset(
    split: Split,
    data: Data,
    augment: Augment,
    epochs: int,
    seed: int,
    start: int = 0,
    step_batch_size: int | None = None,
    worker: int = 0,
    workers: int = 1,
    preprocessing: Preprocessing = OFFICIAL,
) -> tf.data.Dataset:
    """Returns the batches of a whole training run, one epoch after another.

    Which image stands at a position of the run, and under the policies `paper` and `none` what it
    looks like, follows from `(seed, position)`; how a batch is mixed, from `(seed, its step, its
    worker)`. So batches are the same wherever the run starts, and the workers' shares of a step are
    together the images that one worker alone would have. KerasCV draws from generators that have
    moved on: under its policy the batches before `start` are computed again and thrown away.

    Every epoch shuffles anew, and leaves out the images that do not fill its last update. With
    `augment.repeated_augmentation` the images come several times in a row, and an epoch, which is
    as long as without, sees as many times fewer of them (torchvision's `RASampler`).

    Args:
        split: The training images.
        data: Size, and images in an update.
        augment: What happens to them.
        epochs: Passes over the images; pass `steps_per_epoch` to `model.fit`.
        seed: Seed of the order and of the augmentation.
        start: Number of the step to start with.
        step_batch_size: Images in a step, of all workers together. Defaults to `data.batch_size`.
        worker: Which of the workers the batches are for, from 0.
        workers: Among how many every step is shared.
        preprocessing: What the network expects of its images: how they are resized, and the mean
            and deviation of the noise that erases parts of them.

    Returns:
        A dataset of a batch for every step, `epochs * (images // data.batch_size)` updates of them,
        less those before `start`: images `float32` of shape `(step_batch_size // workers, size,
        size, 3)` with values from 0 to 255 (beyond them where erased), and targets `float32` of
        shape `(step_batch_size // workers, classes)`, smoothed by `augment.smoothing_in_targets`.

    Raises:
        DataError: If the steps cannot be shared equally.
    """
    _keep_off_the_gpu()
    step_size = data.batch_size if step_batch_size is None else step_batch_size
    share = _share(data.batch_size, step_size, workers)
    per_epoch = split.size // data.batch_size * data.batch_size

    def load(number):
        position = number // share * step_size + worker * share + number % share
        epoch, place = position // per_epoch, position % per_epoch
        index = tf.random.experimental.index_shuffle(
            place // augment.repeated_augmentation, tf.stack([seed, epoch]), split.size - 1
        )
        return _load_example(split, index, data, augment, _seed(seed, position), preprocessing)

    steps = epochs * per_epoch // step_size
    first = 0 if augment.policy == "keras_cv" else start
    dataset = _map_in_parallel(tf.data.Dataset.range(first * share, steps * share), load)
    if augment.policy == "keras_cv":
        own_seed = seed + worker  # or all workers' images would be augmented alike
        keras_cv_augment.seed_draws(own_seed)
        dataset = _augmented_by_keras_cv(dataset, augment, own_seed)
        dataset = _batched(dataset, split, share, drop_remainder=True)
        dataset = _mixed_by_keras_cv(dataset, augment, own_seed).skip(start)
    else:
        dataset = _batched(dataset, split, share, drop_remainder=True)
        dataset = _mixed(dataset, augment, seed, start, worker, workers)
    return dataset.prefetch(tf.data.AUTOTUNE)


def _share(batch_size, step_size, workers):
    """Returns each worker's images of a step."""
    if batch_size % step_size or step_size % workers:
        raise DataError(
            f"An update of {batch_size} images in steps of {step_size} cannot be shared equally by "
            f"{workers} workers. Pass a data.batch_size that is a multiple of "
            f"optimizer.gradient_accumulation_steps times {workers}."
        )
    return step_size // workers


def evaluation_dataset(
    split: Split,
    image_size: int | tuple[int, int],
    crop_fraction: float,
    batch_size: int = 64,
    label_smoothing: float = 0.0,
    channels: int = 3,
    interpolation: str = OFFICIAL.interpolation,
    warp_from: int | None = OFFICIAL.warp_from,
) -> tf.data.Dataset:
    """Returns every image of a split once, in order, prepared as the network is evaluated.

    Args:
        split: The images.
        image_size: Height and width of the results, in pixels: one number for both, or two.
        crop_fraction: The centre crop's share of the resized image, below 384 pixels.
        batch_size: Images in a batch.
        label_smoothing: Share of the targets spread over all classes, so that the loss means what
            it means in training. Leave it at 0 for labels.
        channels: 3 for RGB, 1 for grey.
        interpolation: How images are resized; see `Preprocessor`.
        warp_from: Side from which images are resized as a whole; see `Preprocessor`.

    Returns:
        A dataset of images `float32` of shape `(batch, height, width, channels)` with values from 0
        to 255, and one-hot labels `(batch, classes)`; the last batch may be smaller.

    Raises:
        UserError: If images cannot be turned into as many channels.
    """
    refuse_files(channels)
    _keep_off_the_gpu()

    def load(index):
        image, label = split.example(index)
        image = in_channels(image, channels)
        image = evaluation_image(
            image, image_size, crop_fraction, interpolation=interpolation, warp_from=warp_from
        )
        return image, label

    dataset = _map_in_parallel(tf.data.Dataset.range(split.size), load)
    dataset = _batched(dataset, split, batch_size, drop_remainder=False)
    if label_smoothing:
        dataset = dataset.map(lambda images, labels: (images, smooth(labels, label_smoothing)))
    return dataset.prefetch(tf.data.AUTOTUNE)


def _seed(seed, number):
    return tf.stack([tf.constant(seed, tf.int64), number])


def _load_example(split, index, data, augment, seed, preprocessing):
    """Brings a training image to its size and does what one image alone can be done."""
    crop_seed, flip_seed, augment_seed, erasing_seed = tf.unstack(tf.random.split(seed, 4))
    image, label = _cropped(split, index, data, augment, crop_seed, preprocessing)
    image = random_flip(image, augment.horizontal_flip, flip_seed)
    if augment.policy == "paper" and augment.rand_augment is not None:
        image = rand_augment(image, augment.rand_augment, augment_seed)
    if augment.trivial_augment:
        image = trivial_augment(image, augment_seed)
    if augment.random_erasing:
        statistics = preprocessing.mean, preprocessing.std
        image = random_erasing(image, augment.random_erasing, erasing_seed, *statistics)
    return image, label


def _cropped(split, index, data, augment, seed, preprocessing):
    """Returns an image of the network's size, decoding no more of it than is seen."""
    size, crop = data.image_size, augment.random_resized_crop
    if crop is not None:
        part, label = split.example(
            index, lambda height, width: draw_crop(height, width, crop.area, crop.ratio, seed)
        )
        image = resize(part, size, size, interpolation=preprocessing.interpolation)
        return tf.ensure_shape(image, (size, size, 3)), label
    image, label = split.example(index)
    image = evaluation_image(
        image,
        size,
        data.crop_fraction,
        interpolation=preprocessing.interpolation,
        warp_from=preprocessing.warp_from,
    )
    if augment.random_crop_padding:
        image = random_crop(image, augment.random_crop_padding, seed)
    return image, label


def _mixed(dataset, augment, seed, start, worker, workers):
    def mix_batch(step, batch):
        images, labels = batch
        # Images have the numbers from 0 on, and batches those below: no two share their draws.
        number = -1 - (step * workers + worker)
        targets = smooth(labels, augment.smoothing_in_targets)
        return mix(images, targets, augment, _seed(seed, number))

    return _map_in_parallel(dataset.enumerate(start), mix_batch)


def _augmented_by_keras_cv(dataset, augment, seed):
    if augment.rand_augment is None:
        return dataset
    augment_image = keras_cv_augment.image_augmenter(augment.rand_augment, seed)
    return dataset.map(lambda image, label: (augment_image(image), label))


def _mixed_by_keras_cv(dataset, augment, seed):
    mix_batch = keras_cv_augment.batch_mixer(augment, seed)
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
