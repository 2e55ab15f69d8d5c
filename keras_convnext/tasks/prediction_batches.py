"""Prediction in batches of a few sizes, since JAX compiles a network for each size."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import keras
import numpy as np

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
