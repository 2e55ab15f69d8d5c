"""Where labelled images come from: splits, the parts of a data set to train or to test on."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import tensorflow as tf

from keras_convnext.data import folder
from keras_convnext.data.decoding import decode_rgb
from keras_convnext.errors import MissingPackage
from keras_convnext.recipe import Data


class Split(Protocol):
    """Labelled images that can be had by number."""

    @property
    def labels(self) -> np.ndarray:
        """The number of each image's class, `int32` of shape `(images,)`."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers."""

    def image(self, index: tf.Tensor) -> tf.Tensor:
        """Returns one image as `uint8` of shape `(height, width, 3)`, inside a graph."""

    def name_of(self, index: int) -> str:
        """Returns what a person calls the image: its file, or its number."""


@dataclass(frozen=True)
class ArraySplit:
    """Images held in memory, `uint8` of shape `(images, height, width, 3)`."""

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def image(self, index: tf.Tensor) -> tf.Tensor:
        return tf.gather(self.images, index)

    def name_of(self, index: int) -> str:
        return f"image {index}"


@dataclass(frozen=True)
class FileSplit:
    """Images in files, decoded when they are needed."""

    files: list[str] = field(repr=False)
    labels: np.ndarray
    class_names: tuple[str, ...]

    def image(self, index: tf.Tensor) -> tf.Tensor:
        return decode_rgb(tf.io.read_file(tf.gather(self.files, index)))

    def name_of(self, index: int) -> str:
        return self.files[index]


def load_splits(data: Data) -> tuple[Split, Split]:
    """Returns the training and the validation split of a recipe's data set.

    Raises:
        DataError: If there is anything wrong with the data.
    """
    if data.path is not None:
        return image_folders(data.path, data.on_bad_image)
    return digits(data.test_fraction, data.split_seed)


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


def image_folders(path: str, on_bad_image: str = "error") -> tuple[FileSplit, FileSplit]:
    """Returns the images of `path/train/<class>/` and `path/val/<class>/`.

    Raises:
        DataError: If the folders do not hold what they should; see `keras_convnext.data.folder`.
    """
    root = folder.existing(path)
    train = image_folder(root / "train", on_bad_image)
    validation = image_folder(root / "val", on_bad_image, train.class_names)
    return train, validation


def image_folder(
    path, on_bad_image: str = "error", class_names: tuple[str, ...] | None = None
) -> FileSplit:
    """Returns the images of `path/<class>/`.

    Args:
        path: The folder that holds one folder a class.
        on_bad_image: `"error"` or `"skip"`, for files that are no images.
        class_names: The classes the network knows; by default those of the folder, sorted.

    Raises:
        DataError: If the folder does not hold what it should.
    """
    files_of = folder.list_classes(folder.existing(path))
    names = class_names or tuple(files_of)
    folder.refuse_unknown_classes(path, files_of, names)
    files_of = folder.check_images(files_of, on_bad_image)
    files, labels = [], []
    for name, of_class in files_of.items():
        files += of_class
        labels += [names.index(name)] * len(of_class)
    return FileSplit(files, np.array(labels, "int32"), names)
