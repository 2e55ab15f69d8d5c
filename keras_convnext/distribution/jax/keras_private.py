"""Private names of Keras: how it lays out batches and variables on JAX.

Tested with Keras 3.15. `tests/test_private_apis.py` checks that each still does what is said here.
"""

import contextlib
from collections.abc import Iterator

import jax
import keras
import numpy as np
from keras.src.backend.jax import distribution_lib, trainer


@contextlib.contextmanager
def layouts_of_each_batch() -> Iterator[None]:
    """Within this context each batch is laid out by its own size, and global arrays stay as is.

    Keras asks a distribution for the layout of an epoch's first batch and uses it for all, which
    fails for a last batch that the devices cannot share equally.
    """
    original = trainer._distribute_data

    def distribute(data, layouts=None):
        if all(_is_laid_out(x) for x in jax.tree.leaves(data)):
            return data
        return original(data)

    trainer._distribute_data = distribute
    try:
        yield
    finally:
        trainer._distribute_data = original


@contextlib.contextmanager
def own_copies_of_variables() -> Iterator[None]:
    """Within this context each process assigns to variables without asking the others.

    JAX would compare the value with those of all processes, one variable after another. A process
    that cannot go on, as it fails to read a file, would leave the others waiting.
    """
    original = distribution_lib.distribute_tensor

    def distribute(tensor, layout):
        sharding = getattr(layout, "backend_layout", layout)
        is_local = isinstance(tensor, np.ndarray) or (
            isinstance(tensor, jax.Array)
            and not isinstance(tensor, jax.core.Tracer)
            and tensor.is_fully_addressable
        )
        if not is_local or not isinstance(sharding, jax.sharding.Sharding):
            return original(tensor, layout)
        value = np.asarray(tensor)
        return jax.make_array_from_callback(value.shape, sharding, lambda part: value[part])

    distribution_lib.distribute_tensor = distribute
    try:
        yield
    finally:
        distribution_lib.distribute_tensor = original


def _is_laid_out(x) -> bool:
    distribution = keras.distribution.distribution()
    return (
        distribution is not None
        and isinstance(x, jax.Array)
        and x.sharding.device_set == set(distribution.device_mesh.backend_mesh.devices.flat)
    )
