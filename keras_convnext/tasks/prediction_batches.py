"""Prediction in batches of a few sizes, since JAX compiles a network for each size."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import keras
import numpy as np

from keras_convnext.data.map_ahead import map_ahead
from keras_convnext.data.pixels import Image
from keras_convnext.data.preprocessor import Preprocessor
from keras_convnext.errors import DataError

BATCH_SIZE = 32
# A smaller batch is padded to the next of these sizes.
SIZES = (1, 2, 4, 8, 16, BATCH_SIZE)

Item = TypeVar("Item")


def in_batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yields the items in lists of `BATCH_SIZE`; the last may be shorter."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, BATCH_SIZE)):
        yield batch


def predict_batch(model: keras.Model, images: Sequence[np.ndarray]) -> np.ndarray:
    """Returns a model's outputs for up to `BATCH_SIZE` images.

    Args:
        model: A model of one input and one output.
        images: Arrays of one shape.

    Returns:
        `float32` array, a row for each image.
    """
    size = next(size for size in SIZES if size >= len(images))
    batch = np.zeros((size, *images[0].shape), images[0].dtype)
    batch[: len(images)] = images
    return np.asarray(model.predict_on_batch(batch)[: len(images)], "float32")


def each_output(
    model: keras.Model, preprocessor: Preprocessor, images: Iterable[Image]
) -> Iterator[np.ndarray | DataError]:
    """Yields a model's output for every image, or the error of an image that cannot be read.

    Threads prepare the images of a batch while the model computes the one before, so that the
    memory does not grow with the number of images.

    Args:
        model: A model of one input and one output.
        preprocessor: Brings images to its size.
        images: Any number of images.
    """

    def prepare(image):
        try:
            return preprocessor(image)
        except DataError as error:
            return error

    for batch in in_batches(map_ahead(prepare, images, 2 * BATCH_SIZE)):
        prepared = [image for image in batch if not isinstance(image, DataError)]
        rows = iter(predict_batch(model, prepared) if prepared else ())
        yield from (one if isinstance(one, DataError) else next(rows) for one in batch)
