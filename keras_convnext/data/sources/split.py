"""A split: the labelled images of one part of a data set, such as those for training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

    from keras_convnext.data.transforms.orientation import Box


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

    def pixels(self, index: int) -> np.ndarray:
        """Returns an image outside a graph: `uint8` of shape `(height, width, 3)`.

        Raises:
            DataError: If it cannot be read.
        """

    def label(self, index: int) -> int:
        """Returns the label of an image outside a graph."""

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
        import tensorflow as tf

        from keras_convnext.data.transforms.decode import part_of

        image = tf.gather(self.images, index)
        return (image if box is None else part_of(image, box)), tf.gather(self.labels, index)

    def pixels(self, index: int) -> np.ndarray:
        return self.images[index]

    def label(self, index: int) -> int:
        return int(self.labels[index])

    def name_of(self, index: int) -> str:
        return f"image {index}"

    def unreadable(self) -> str | None:
        return None
