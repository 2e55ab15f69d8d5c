"""Batches of labelled images for evaluation, prepared with Pillow where TensorFlow is missing."""

import itertools
from collections.abc import Iterator

import numpy as np

from keras_convnext.data.map_ahead import map_ahead
from keras_convnext.data.pixels import check_files_have
from keras_convnext.data.preprocessor import Preprocessor
from keras_convnext.data.sources.split import Split

AHEAD = 2  # batches that are prepared before they are asked for


class ImageBatches:
    """The images and one-hot labels of a split, in its order.

    Args:
        split: The images.
        preprocessor: Brings them to the network's size.
        batch_size: Images in a batch; the last may have fewer. Defaults to 64.

    Raises:
        UserError: If image files cannot be converted to the preprocessor's channels.
    """

    def __init__(self, split: Split, preprocessor: Preprocessor, batch_size: int = 64) -> None:
        check_files_have(preprocessor.channels)
        self._split, self._preprocessor, self._batch_size = split, preprocessor, batch_size

    def __len__(self) -> int:
        return -(-self._split.size // self._batch_size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        images = map_ahead(self._prepare, range(self._split.size), AHEAD * self._batch_size)
        for start in range(0, self._split.size, self._batch_size):
            batch = np.stack(list(itertools.islice(images, self._batch_size)))
            yield batch, self._one_hot(range(start, start + len(batch)))

    def _prepare(self, index: int) -> np.ndarray:
        return self._preprocessor(self._split.pixels(index))

    def _one_hot(self, indices: range) -> np.ndarray:
        labels = [self._split.label(index) for index in indices]
        return np.eye(len(self._split.class_names), dtype="float32")[labels]
