"""Splits of images in folders, one folder per class."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_convnext.data.pixels import pixels_of
from keras_convnext.data.sources.folder_index import FolderIndex, current_index
from keras_convnext.data.sources.folder_layout import check_level, contents_of_single_class
from keras_convnext.data.sources.image_check import check_faults, fault_of_file, find_faults
from keras_convnext.data.sources.index_cache import index_directory
from keras_convnext.data.sources.recent_images import RecentImages
from keras_convnext.errors import DataError
from keras_convnext.files import expanded
from keras_convnext.recipe import Data
from keras_convnext.text import printable, shortened

if TYPE_CHECKING:
    import tensorflow as tf

    from keras_convnext.data.transforms.orientation import Box


@dataclass(frozen=True)
class FolderSplit:
    """Image files, listed in an index and decoded on demand.

    Attributes:
        folder: The folder of class folders.
        index: The index of its files.
        class_names: The classes that the network knows.
        labels: The label of each class of the folder, an index into `class_names`.
        left_out: Numbers of the files that are not images, sorted.
        apply_orientation: Whether images are rotated as their EXIF orientation says.
        recent: The images requested last.
    """

    folder: Path
    index: FolderIndex = field(repr=False)
    class_names: tuple[str, ...] = field(repr=False)
    labels: np.ndarray = field(repr=False)
    left_out: np.ndarray = field(repr=False)
    apply_orientation: bool = True
    recent: RecentImages = field(default_factory=RecentImages, repr=False, compare=False)

    @property
    def size(self) -> int:
        return self.index.size - len(self.left_out)

    def example(self, index: tf.Tensor, box: Box | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        import tensorflow as tf

        from keras_convnext.data.transforms.decode import decode_rgb_part

        path, label = tf.numpy_function(
            self._request, [index], [tf.string, tf.int32], stateful=False
        )
        encoded = tf.io.read_file(tf.ensure_shape(path, ()))
        image = decode_rgb_part(encoded, box, self.apply_orientation)
        return image, tf.ensure_shape(label, ())

    def pixels(self, index: int) -> np.ndarray:
        return pixels_of(self.name_of(index), 3, self.apply_orientation)

    def label(self, index: int) -> int:
        return int(self._path_and_label(index)[1])

    def unreadable(self) -> str | None:
        return self.recent.first_fault(self._fault_of)

    def _fault_of(self, index):
        path, _ = self._path_and_label(index)
        fault = fault_of_file(path)
        return fault and f"{printable(os.fsdecode(path))} cannot be read as an image: {fault}"

    def _request(self, index):
        self.recent.record(int(index))
        return self._path_and_label(index)

    def name_of(self, index: int) -> str:
        return os.fsdecode(self._path_and_label(index)[0])

    @functools.cached_property
    def _kept_before(self):
        """For every file left out, the number of kept files before it."""
        return self.left_out - np.arange(len(self.left_out))

    def _path_and_label(self, index):
        number = int(index) + int(np.searchsorted(self._kept_before, index, side="right"))
        path = os.path.join(os.fsencode(self.folder), self.index.path_of(number))
        return path, self.labels[self.index.class_of(number)]


def image_folders(path: str, data: Data) -> tuple[FolderSplit, FolderSplit | None]:
    """Returns the images of `path/train/<class>/` and of `path/val/<class>/`.

    Args:
        path: The folder of both.
        data: The names of the two folders, and how files are checked and read.

    Raises:
        DataError: If the folders do not have this layout, or files are not images.
    """

    def load(split, class_names=None):
        return image_folder(
            root / split,
            data.on_bad_image,
            class_names,
            data.check_images,
            data.apply_orientation,
            for_training=class_names is None,
        )

    root = existing(path)
    train = load(data.training_split)
    if data.validation_split is None:
        return train, None
    return train, load(data.validation_split, train.class_names)


def image_folder(
    path: str | Path,
    on_bad_image: str = "error",
    class_names: tuple[str, ...] | None = None,
    check_images: bool = True,
    apply_orientation: bool = True,
    for_training: bool = False,
) -> FolderSplit:
    """Returns the images of `path/<class>/`; the first use writes an index of the folder.

    Args:
        path: The folder with one folder per class.
        on_bad_image: `"error"` or `"skip"`, for files that are not images.
        class_names: The classes that the network knows. Defaults to those of the folder, sorted.
        check_images: Whether every file is decoded once, on the first use of the folder.
        apply_orientation: Whether images are rotated as their EXIF orientation says.
        for_training: Whether to train on them, which takes at least two classes.

    Raises:
        DataError: If the folder does not have this layout, or files are not images.
    """
    folder = existing(path)
    with index_directory(folder) as directory:
        index = current_index(directory / "index", folder)
        names = class_names or index.class_names
        check_level(folder, index.class_names, for_training)
        labels = labels_among(
            path, index.class_names, names, contents_of_single_class(folder, index.class_names)
        )
        faults = find_faults(index, folder, directory) if check_images else {}
    left_out = check_faults(index, faults, folder, on_bad_image)
    return FolderSplit(folder, index, names, labels, left_out, apply_orientation)


def existing(path: str | Path) -> Path:
    """Returns the folder, or raises a `DataError` if there is none."""
    folder = expanded(path)
    if not folder.is_dir():
        raise DataError(
            f"There is no folder {folder}. A data set of images is a folder that contains train/ "
            f"and val/, each with one folder per class."
        )
    return folder


def labels_among(
    source: object, classes: Sequence[str], known: tuple[str, ...], hint: str = ""
) -> np.ndarray:
    """Returns the label of each class of the data.

    Args:
        source: Name of the data in the message.
        classes: The classes of the data.
        known: The classes of the network, in the order of its outputs.
        hint: Text to append to the message.

    Raises:
        DataError: If the network does not know a class of the data.
    """
    unknown = sorted(set(classes) - set(known))
    if unknown:
        raise DataError(
            f"{source} holds classes that the training images lack: {shortened(unknown)}. The "
            f"classes trained on are: {shortened(known)}.{hint}"
        )
    number_of = {name: number for number, name in enumerate(known)}
    return np.array([number_of[name] for name in classes], np.int32)
