"""A folder of images, one folder a class, as a split."""

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_convnext.data.sources.folder_index import FolderIndex, current_index
from keras_convnext.data.sources.folder_layout import refuse_wrong_level, what_lies_too_deep
from keras_convnext.data.sources.image_check import fault_of_file, find_faults, numbers_to_leave_out
from keras_convnext.data.sources.index_cache import index_directory
from keras_convnext.data.sources.requested import Requested
from keras_convnext.data.transforms.decode import Box, decode_rgb_part
from keras_convnext.errors import DataError
from keras_convnext.files import expanded
from keras_convnext.text import printable, shortened


@dataclass(frozen=True)
class FolderSplit:
    """Images in files, found by an index and decoded when they are needed.

    Attributes:
        folder: The folder of class folders.
        index: What is in it.
        class_names: The classes the network knows.
        labels: The number among them of every class in the folder.
        left_out: Numbers of the files that are no images, sorted.
        apply_orientation: Whether images are turned as their EXIF says.
    """

    folder: Path
    index: FolderIndex = field(repr=False)
    class_names: tuple[str, ...] = field(repr=False)
    labels: np.ndarray = field(repr=False)
    left_out: np.ndarray = field(repr=False)
    apply_orientation: bool = True
    requested: Requested = field(default_factory=Requested, repr=False, compare=False)

    @property
    def size(self) -> int:
        return self.index.size - len(self.left_out)

    def example(self, index: tf.Tensor, box: Box | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        path, label = tf.numpy_function(
            self._requested, [index], [tf.string, tf.int32], stateful=False
        )
        encoded = tf.io.read_file(tf.ensure_shape(path, ()))
        image = decode_rgb_part(encoded, box, self.apply_orientation)
        return image, tf.ensure_shape(label, ())

    def unreadable(self) -> str | None:
        return self.requested.first_fault(self._fault_of)

    def _fault_of(self, index):
        path, _ = self._path_and_label(index)
        fault = fault_of_file(path)
        return fault and f"{printable(os.fsdecode(path))} cannot be read as an image: {fault}"

    def _requested(self, index):
        self.requested.note(int(index))
        return self._path_and_label(index)

    def name_of(self, index: int) -> str:
        return os.fsdecode(self._path_and_label(index)[0])

    @functools.cached_property
    def _places_left_out(self):
        """For every file left out, how many before it stay."""
        return self.left_out - np.arange(len(self.left_out))

    def _path_and_label(self, index):
        number = int(index) + int(np.searchsorted(self._places_left_out, index, side="right"))
        path = os.path.join(os.fsencode(self.folder), self.index.path_of(number))
        return path, self.labels[self.index.class_of(number)]


def image_folder(
    path: str | Path,
    on_bad_image: str = "error",
    class_names: tuple[str, ...] | None = None,
    check_images: bool = True,
    apply_orientation: bool = True,
    for_training: bool = False,
) -> FolderSplit:
    """Returns the images of `path/<class>/`, whose index is made when they are first used.

    Args:
        path: The folder that holds one folder a class.
        on_bad_image: `"error"` or `"skip"`, for files that are no images.
        class_names: The classes the network knows; by default those of the folder, sorted.
        check_images: Whether every file is decoded once, when it is first used.
        apply_orientation: Whether images are turned as their EXIF says.
        for_training: Whether a network is to be trained on them, which takes two classes at least.

    Raises:
        DataError: If the folder does not hold what it should.
    """
    folder = existing(path)
    with index_directory(folder) as directory:
        index = current_index(directory / "index", folder)
        names = class_names or index.class_names
        refuse_wrong_level(folder, index.class_names, for_training)
        labels = labels_among(
            path, index.class_names, names, what_lies_too_deep(folder, index.class_names)
        )
        faults = find_faults(index, folder, directory / "checks.jsonl") if check_images else {}
    left_out = numbers_to_leave_out(index, faults, folder, on_bad_image)
    return FolderSplit(folder, index, names, labels, left_out, apply_orientation)


def existing(path: str | Path) -> Path:
    """Returns the folder, or raises a `DataError` if there is none."""
    folder = expanded(path)
    if not folder.is_dir():
        raise DataError(
            f"There is no folder {folder}. A data set of images is a folder that holds train/ and "
            f"val/, and in each of them one folder for every class."
        )
    return folder


def labels_among(
    source: object, classes: Sequence[str], known: tuple[str, ...], hint: str = ""
) -> np.ndarray:
    """Returns the numbers of the data's classes among those that the network knows.

    Args:
        source: What the data is called.
        classes: Its classes.
        known: Those of the network, in the order of its outputs.
        hint: What else to say if they do not fit.

    Raises:
        DataError: If the data holds a class that the network does not know.
    """
    unknown = sorted(set(classes) - set(known))
    if unknown:
        raise DataError(
            f"{source} holds classes that the training images lack: {shortened(unknown)}. The "
            f"classes trained on are: {shortened(known)}.{hint}"
        )
    number_of = {name: number for number, name in enumerate(known)}
    return np.array([number_of[name] for name in classes], np.int32)
