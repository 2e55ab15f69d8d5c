"""Batches for `evaluate` in several processes, in which every image counts once."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import keras
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from keras_convnext.distribution.jax.exchange import gather

if TYPE_CHECKING:
    import tensorflow as tf


class EvaluationBatches(keras.utils.PyDataset):
    """The batches that the shards of all processes make up.

    Each device gets an equal part of a batch. If the processes' parts of a batch differ in size, or
    do not divide by the devices, they are exchanged, and every device gets the whole batch. Keras
    reads the batches in order; all processes must do so together.

    Args:
        shard: This process's part of each batch. The parts of the last batch may differ in size,
            and some may be missing.
        distribution: The distribution in whose scope the model is evaluated.
    """

    def __init__(self, shard: "tf.data.Dataset", distribution: Any) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self._shard = shard
        self._mesh = distribution.device_mesh.backend_mesh
        self._batch_axis = distribution.batch_dim_name
        self._count = max(gather(int(shard.cardinality())))
        self._parts: Iterator[Any] = iter(())
        self._are_even = False

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Any:
        if index == 0:
            self._parts = self._shard.as_numpy_iterator()
        part = next(self._parts, None)
        if index == 0:
            self._are_even = self._can_be_shared(gather(_images(part)))
        if self._are_even and index < self._count - 1:
            return self._on_devices(part, self._batch_axis)
        parts = gather(part)
        if self._can_be_shared([_images(part) for part in parts]):
            return self._on_devices(part, self._batch_axis)
        some = [part for part in parts if part is not None]
        whole = keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *some)
        return self._on_devices(whole, None)

    def _can_be_shared(self, sizes: list[int]) -> bool:
        devices = self._mesh.shape[self._batch_axis] // len(sizes)
        return len(set(sizes)) == 1 and sizes[0] % devices == 0

    def _on_devices(self, batch: Any, axis: str | None) -> Any:
        sharding = NamedSharding(self._mesh, PartitionSpec(axis))
        return keras.tree.map_structure(
            lambda x: jax.make_array_from_process_local_data(sharding, x), batch
        )


def _images(part: Any) -> int:
    return 0 if part is None else len(keras.tree.flatten(part)[0])
