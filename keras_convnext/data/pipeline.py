"""The tf.data pipelines that feed `model.fit`, `evaluate` and `predict`, on any backend."""

import keras
import tensorflow as tf

from keras_convnext.catalog.preprocessing import OFFICIAL, Preprocessing
from keras_convnext.data.pixels import check_files_have
from keras_convnext.data.preprocessor import Preprocessor
from keras_convnext.data.sources.load import Split
from keras_convnext.data.targets import CLASS_TARGETS, Targets
from keras_convnext.data.transforms import keras_cv_augment
from keras_convnext.distribution.shards import position_in_step
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
    shard_index: int = 0,
    num_shards: int = 1,
    preprocessing: Preprocessing = OFFICIAL,
    targets: Targets = CLASS_TARGETS,
) -> tf.data.Dataset:
    """Returns the batches of a whole training run, one epoch after another.

    The pair `(seed, position)` determines the image at a position of the run and, under the
    policies `paper` and `none`, its augmentation. The pair `(seed, step)` determines how the images
    of a step are mixed: all shards share one draw. The batches are therefore the same wherever the
    run starts, and the shards of a step together hold the mixed images that a single process would
    have, if their size is even; see `distribution.shards`. KerasCV draws from stateful generators,
    one for each shard: under the policy `keras_cv` the batches before `start` are computed and
    discarded, and the images depend on the number of shards.

    Every epoch shuffles anew, and omits the images that do not fill its last update. With
    `augment.repeated_augmentation` every image comes several times in a row, and an epoch has the
    same length but fewer distinct images (torchvision's `RASampler`).

    Args:
        split: The training images.
        data: The image size, and the images in an update.
        augment: The augmentation.
        epochs: Passes over the images; pass `steps_per_epoch` to `model.fit`.
        seed: Seed of the order and of the augmentation.
        start: The step to start with. Defaults to 0.
        step_batch_size: Images in a step, over all shards. Defaults to `data.batch_size`.
        shard_index: The shard to return, from 0. Defaults to 0.
        num_shards: The number of shards of every step. Defaults to 1.
        preprocessing: How the network expects its images: their resizing, and the mean and
            deviation of the noise that erases parts of them. Defaults to the official one.
        targets: How targets are read, batched and mixed. Defaults to one-hot classes.

    Returns:
        A dataset with one batch a step, `epochs * (images // data.batch_size)` updates in total,
        without the steps before `start`. For classification a batch holds images `float32` of shape
        `(step_batch_size // num_shards, size, size, 3)` with values from 0 to 255 (beyond them
        where erased), and targets `float32` of shape `(step_batch_size // num_shards, classes)`,
        smoothed by `augment.smoothing_in_targets`.

    Raises:
        DataError: If the images of an update do not divide evenly into steps and shards.
    """
    _hide_gpu_from_tensorflow()
    step_size = data.batch_size if step_batch_size is None else step_batch_size
    share = _shard_size(data.batch_size, step_size, num_shards)
    per_epoch = split.size // data.batch_size * data.batch_size

    def load(number):
        in_step = position_in_step(number % share, share, shard_index, num_shards)
        position = number // share * step_size + in_step
        epoch, place = position // per_epoch, position % per_epoch
        index = tf.random.experimental.index_shuffle(
            place // augment.repeated_augmentation, tf.stack([seed, epoch]), split.size - 1
        )
        example_seed = _seed(seed, position)
        return targets.training_example(split, index, data, augment, preprocessing, example_seed)

    steps = epochs * per_epoch // step_size
    first = 0 if augment.policy == "keras_cv" else start
    dataset = _map_in_parallel(tf.data.Dataset.range(first * share, steps * share), load)
    if augment.policy == "keras_cv":
        shard_seed = seed + shard_index  # otherwise all shards would draw the same augmentation
        keras_cv_augment.seed_draws(shard_seed)
        dataset = _augmented_by_keras_cv(dataset, augment, shard_seed)
        dataset = targets.batch(dataset, split, share, drop_remainder=True)
        mixer = targets.keras_cv_mixer(augment, shard_seed)
        dataset = (dataset if mixer is None else dataset.map(mixer)).skip(start)
    else:
        dataset = targets.batch(dataset, split, share, drop_remainder=True)
        dataset = _mixed(dataset, targets, augment, seed, start)
    return dataset.prefetch(tf.data.AUTOTUNE)


def _shard_size(batch_size, step_size, num_shards):
    """Returns the images of a step that one shard holds."""
    if batch_size % step_size or step_size % num_shards:
        raise DataError(
            f"An update of {batch_size} images in steps of {step_size} cannot be shared equally by "
            f"{num_shards} shards. Pass a data.batch_size that is a multiple of "
            f"optimizer.gradient_accumulation_steps times {num_shards}."
        )
    return step_size // num_shards


def evaluation_dataset(
    split: Split,
    image_size: int | tuple[int, int],
    crop_fraction: float,
    batch_size: int = 64,
    label_smoothing: float = 0.0,
    channels: int = 3,
    interpolation: str = OFFICIAL.interpolation,
    warp_from: int | None = OFFICIAL.warp_from,
    targets: Targets = CLASS_TARGETS,
    shard_index: int = 0,
    num_shards: int = 1,
) -> tf.data.Dataset:
    """Returns every image of a split once, in order, prepared for evaluation.

    Every shard has its part of each batch, and all shards together have every image once.

    Args:
        split: The images.
        image_size: Height and width of the results in pixels, one number for both or two.
        crop_fraction: The fraction of the resized image that the centre crop keeps.
        batch_size: Images in a batch. Defaults to 64.
        label_smoothing: The fraction of each target that is spread over all classes, so that the
            loss is comparable with the training loss. Leave it at 0 for labels. Defaults to 0.
        channels: 3 for RGB, 1 for grey. Defaults to 3.
        interpolation: How images are resized; see `Preprocessor`.
        warp_from: Side from which images are resized as a whole; see `Preprocessor`.
        targets: How targets are read and batched. Defaults to one-hot classes.
        shard_index: The shard to return, from 0. Defaults to 0.
        num_shards: The number of shards. Defaults to 1.

    Returns:
        A dataset of images `float32` of shape `(batch, height, width, channels)` with values from 0
        to 255 and, for classification, one-hot labels `(batch, classes)`. The last batch may be
        smaller; of several shards some may have one batch less.

    Raises:
        UserError: If image files cannot be converted to that many channels.
        DataError: If a batch cannot be divided equally into the shards.
    """
    check_files_have(channels)
    share = _shard_size(batch_size, batch_size, num_shards)
    _hide_gpu_from_tensorflow()

    preprocessor = Preprocessor(
        image_size, crop_fraction, channels, interpolation=interpolation, warp_from=warp_from
    )

    def load(index):
        return targets.evaluation_example(split, index, preprocessor)

    indices = _evaluation_indices(split.size, batch_size, shard_index, num_shards)
    dataset = _map_in_parallel(indices, load)
    dataset = targets.batch(dataset, split, share, drop_remainder=False)
    if label_smoothing:
        dataset = dataset.map(lambda *batch: targets.smooth(batch, label_smoothing))
    return dataset.prefetch(tf.data.AUTOTUNE)


def _evaluation_indices(images, batch_size, shard_index, num_shards):
    """Returns the images of a shard: its part of every full batch, and of the last one."""
    share, full = batch_size // num_shards, images // batch_size
    first_of_last, last = full * batch_size, images % batch_size
    begin, end = (last * shard // num_shards for shard in (shard_index, shard_index + 1))
    in_full_batches = tf.data.Dataset.range(full * share).map(
        lambda number: number // share * batch_size + shard_index * share + number % share
    )
    return in_full_batches.concatenate(
        tf.data.Dataset.range(first_of_last + begin, first_of_last + end)
    )


def _seed(seed, number):
    return tf.stack([tf.constant(seed, tf.int64), number])


def _mixed(dataset, targets, augment, seed, start):
    def mix_batch(step, batch):
        # Images have the numbers from 0, steps those below 0: no two share their draws.
        return targets.mix(batch, augment, _seed(seed, -1 - step))

    return _map_in_parallel(dataset.enumerate(start), mix_batch)


def _augmented_by_keras_cv(dataset, augment, seed):
    if augment.rand_augment is None:
        return dataset
    augment_image = keras_cv_augment.image_augmenter(augment.rand_augment, seed)
    return dataset.map(lambda image, label: (augment_image(image), label))


def _map_in_parallel(dataset, function):
    return dataset.map(function, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _hide_gpu_from_tensorflow():
    """Leaves the GPU to the backend: TensorFlow would reserve all of its memory for the pipeline.

    On the TensorFlow backend the GPU stays visible.
    """
    if keras.backend.backend() != "tensorflow":
        tf.config.set_visible_devices([], "GPU")
