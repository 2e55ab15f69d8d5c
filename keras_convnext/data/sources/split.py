"""A split: the labelled images of one part of a data set, such as those for training."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import tensorflow as tf

from keras_convnext.data.transforms.decode import Box, part_of


class Split(Protocol):
    """Labelled images that are read by index."""

    @property
    def size(self) -> int:
        """Number of images."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""

    def example(self, index: tf.Tensor, box: Box | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns an image and its label, inside a graph.

        Args:
            index: Index of the image, an `int64` scalar.
            box: The part of the image to read. Defaults to the whole image.

        Returns:
            The image or its part, `uint8` of shape `(height, width, 3)`; and the label, an `int32`
            scalar.
        """

    def name_of(self, index: int) -> str:
        """Returns the image's name in messages: its file, or its index."""

    def unreadable(self) -> str | None:
        """Returns a sentence about a recently requested image that cannot be read, if any."""


@dataclass(frozen=True)
class ArraySplit:
    """Images in memory.

    Attributes:
        images: `uint8` of shape `(images, height, width, 3)`.
        labels: `int32` of shape `(images,)`.
        class_names: Names of the classes, in the order of the labels.
    """

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
