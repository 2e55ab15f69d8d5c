"""Where labelled images come from: splits, the parts of a data set to train or to test on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import tensorflow as tf

from keras_convnext.data.sources.folder import FolderSplit, existing, image_folder
from keras_convnext.data.sources.tfds import tfds_split
from keras_convnext.data.transforms.decode import Box, part_of
from keras_convnext.errors import MissingPackage, UserError
from keras_convnext.recipe import Data

TFDS = "tfds:"  # before the name of a data set, where a folder could be meant


class Split(Protocol):
    """Labelled images that can be had by number."""

    @property
    def size(self) -> int:
        """How many images there are."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers."""

    def example(self, index: tf.Tensor, box: Box | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns an image and the number of its class, inside a graph.

        Args:
            index: Number of the image, an `int64` scalar.
            box: The part of the image that is wanted; by default all of it.

        Returns:
            The image or its part, `uint8` of shape `(height, width, 3)`, and an `int32` scalar.
        """

    def name_of(self, index: int) -> str:
        """Returns what a person calls the image: its file, or its number."""

    def unreadable(self) -> str | None:
        """Names one of the images last asked for that cannot be read, and says what is wrong."""


@dataclass(frozen=True)
class ArraySplit:
    """Images held in memory, `uint8` of shape `(images, height, width, 3)`."""

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    @property
    def size(self) -> int:
        return len(self.labels)

    def example(self, index: tf.Tensor, box: Box | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.gather(self.images, index)
        return (image if box is None else part_of(image, box)), tf.gather(self.labels, index)

    def name_of(self, index: int) -> str:
        return f"image {index}"

    def unreadable(self) -> str | None:
        return None


def load_splits(data: Data) -> tuple[Split, Split | None]:
    """Returns the training split of a recipe's data set, and the validation split if it has one.

    Raises:
        DataError: If there is anything wrong with the data.
    """
    if data.dataset is not None:
        return tfds_splits(data.dataset, data)
    if data.path is not None:
        return image_folders(data.path, data)
    return digits(data.test_fraction, data.split_seed)


def refuse_split_alone(data: str | Path | None, split: str | None) -> None:
    """Raises a `UserError` if a split is named, but not the data set it is a part of."""
    if data is None and split is not None:
        raise UserError("`split` goes with `data`, as tfds:NAME; give both or neither.")


def load_split(
    data: str | Path,
    split: str | None = None,
    on_bad_image: str = "error",
    class_names: tuple[str, ...] | None = None,
    apply_orientation: bool = True,
) -> Split:
    """Returns labelled images to evaluate on.

    Args:
        data: A folder with one folder of images a class, or `tfds:NAME`.
        split: Of the latter, which part.
        on_bad_image: Of the former, `"error"` or `"skip"`, for files that are no images.
        class_names: The classes the network knows; by default those of the data.
        apply_orientation: Whether images are turned as their EXIF says.

    Raises:
        UserError: If there is anything wrong with the data.
    """
    if str(data).startswith(TFDS):
        name = str(data).removeprefix(TFDS)
        return tfds_split(name, split, None, class_names, apply_orientation)
    if split is not None:
        raise UserError(
            f"`split` ({split!r}) is for data sets of TensorFlow Datasets, such as "
            f"tfds:imagenet_v2. Received as data: {data}. Name the folder itself."
        )
    return image_folder(data, on_bad_image, class_names, apply_orientation=apply_orientation)


def tfds_splits(name: str, data: Data) -> tuple[Split, Split | None]:
    """Returns the splits of a data set that TensorFlow Datasets has prepared.

    Raises:
        DataError: If the data set is not there or is not one of labelled images.
    """

    def of(split):
        turns = data.apply_orientation
        return tfds_split(name, split, data.path, apply_orientation=turns, for_training=True)

    train = of(data.training_split)
    return train, None if data.validation_split is None else of(data.validation_split)


def digits(test_fraction: float = 0.2, seed: int = 0) -> tuple[ArraySplit, ArraySplit]:
    """Returns scikit-learn's 1,797 scanned digits of 8x8 pixels, split with equal class shares.

    Raises:
        MissingPackage: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise MissingPackage("scikit-learn, which holds the digits,", "train") from None
    images, labels = load_digits(return_X_y=True)
    greys = np.round(images * (255 / 16)).astype("uint8").reshape(-1, 8, 8, 1)
    rgb = np.repeat(greys, 3, axis=-1)
    names = tuple(str(digit) for digit in range(10))
    train, test = (
        ArraySplit(rgb[part], labels[part].astype("int32"), names)
        for part in train_test_split(
            np.arange(len(labels)), test_size=test_fraction, random_state=seed, stratify=labels
        )
    )
    return train, test


def image_folders(path: str, data: Data) -> tuple[FolderSplit, FolderSplit | None]:
    """Returns the images of `path/train/<class>/` and `path/val/<class>/`, or what they are called.

    Raises:
        DataError: If the folders do not hold what they should.
    """

    def of(split, class_names=None):
        return image_folder(
            root / split,
            data.on_bad_image,
            class_names,
            data.check_images,
            data.apply_orientation,
            for_training=class_names is None,
        )

    root = existing(path)
    train = of(data.training_split)
    if data.validation_split is None:
        return train, None
    return train, of(data.validation_split, train.class_names)
