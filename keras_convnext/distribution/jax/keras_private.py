"""A private name of Keras: how `fit` and `evaluate` lay out a batch on JAX.

Tested with Keras 3.9 to 3.15. `tests/test_private_apis.py` checks that it still does what is said
here.
"""

import contextlib
from collections.abc import Iterator

import jax
import keras
from keras.src.backend.jax import trainer


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


def _is_laid_out(x) -> bool:
    distribution = keras.distribution.distribution()
    return (
        distribution is not None
        and isinstance(x, jax.Array)
        and x.sharding.device_set == set(distribution.device_mesh.backend_mesh.devices.flat)
    )
