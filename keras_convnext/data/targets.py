"""The targets of training examples: how they are read, batched, encoded and mixed.

`Targets` is the part of a task that the pipeline asks. See docs/internals/tasks.md.
"""

from typing import Any

import tensorflow as tf

from keras_convnext.catalog.preprocessing import Preprocessing
from keras_convnext.data.preprocessor import Preprocessor
from keras_convnext.data.sources.load import Split
from keras_convnext.data.transforms import keras_cv_augment
from keras_convnext.data.transforms.grey import in_channels
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
from keras_convnext.recipe import Augment, Data

Batch = tuple[Any, ...]


class Targets:
    """Targets of one value an image, which no transform of the image changes.

    A subclass overrides `encode` for another kind of value. A task whose targets have positions in
    the image, such as a label map, also overrides `training_example` and `evaluation_example`, so
    that one crop and one flip apply to both. Every method runs inside a `tf.data` graph. The shapes
    of a batch must be static.
    """

    def training_example(
        self,
        split: Split,
        index: tf.Tensor,
        data: Data,
        augment: Augment,
        preprocessing: Preprocessing,
        seed: tf.Tensor,
    ) -> Batch:
        """Returns an augmented image and its target, before batching.

        Args:
            split: The training images.
            index: Number of the image, an `int64` scalar.
            data: The size of the images.
            augment: The transforms.
            preprocessing: The resizing, and the statistics of the noise of random erasing.
            seed: Two integers, from which every random choice must follow.

        Returns:
            The image, `float32` of shape `(size, size, 3)` with values from 0 to 255, and the value
            that the split gives for it.
        """
        crop_seed, flip_seed, augment_seed, erasing_seed = tf.unstack(tf.random.split(seed, 4))
        image, label = _cropped(split, index, data, augment, preprocessing, crop_seed)
        image = random_flip(image, augment.horizontal_flip, flip_seed)
        if augment.policy == "paper" and augment.rand_augment is not None:
            image = rand_augment(image, augment.rand_augment, augment_seed)
        if augment.trivial_augment:
            image = trivial_augment(image, augment_seed)
        if augment.random_erasing:
            statistics = preprocessing.mean, preprocessing.std
            image = random_erasing(image, augment.random_erasing, erasing_seed, *statistics)
        return image, label

    def evaluation_example(
        self, split: Split, index: tf.Tensor, preprocessor: Preprocessor
    ) -> Batch:
        """Returns an image as the network is evaluated on it, and its target, before batching.

        Args:
            split: The images.
            index: Number of the image, an `int64` scalar.
            preprocessor: Brings images to the network's size.
        """
        image, label = split.example(index)
        return preprocessor.resized(in_channels(image, preprocessor.channels)), label

    def batch(
        self, dataset: tf.data.Dataset, split: Split, batch_size: int, drop_remainder: bool
    ) -> tf.data.Dataset:
        """Returns the examples in batches, with encoded targets."""
        return dataset.batch(batch_size, drop_remainder=drop_remainder).map(
            lambda images, values: (images, self.encode(values, split)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

    def encode(self, values: tf.Tensor, split: Split) -> tf.Tensor:
        """Returns a batch of values as the loss takes them; by default unchanged."""
        return values

    def smooth(self, batch: Batch, share: float) -> Batch:
        """Returns a batch with label smoothing; by default unchanged."""
        return batch

    def mix(self, batch: Batch, augment: Augment, seed: tf.Tensor) -> Batch:
        """Returns a training batch smoothed and mixed, as `paper` does it; by default unchanged."""
        return batch

    def keras_cv_mixer(self, augment: Augment, seed: int) -> Any:
        """Returns a function that mixes a batch with KerasCV, or `None`; by default `None`."""
        return None


class ClassTargets(Targets):
    """One-hot classes `float32` of shape `(batch, classes)`, which Mixup and CutMix mix."""

    def encode(self, values, split):
        return tf.one_hot(values, len(split.class_names))

    def smooth(self, batch, share):
        images, labels = batch
        return images, smooth(labels, share)

    def mix(self, batch, augment, seed):
        images, labels = self.smooth(batch, augment.smoothing_in_targets)
        return mix(images, labels, augment, seed)

    def keras_cv_mixer(self, augment, seed):
        return keras_cv_augment.batch_mixer(augment, seed)


CLASS_TARGETS = ClassTargets()


def _cropped(split, index, data, augment, preprocessing, seed):
    """Returns an image at the network's size and its label; decodes only the crop of the image."""
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
