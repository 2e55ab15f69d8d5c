"""Keras's creation of a model's variables under a strategy, from the shapes of the batches.

`fit` and `evaluate` of Keras 3.9 to 3.15 take a first batch to do it, and start the data again.
That fails where the replicas' parts of the first batch differ in size, and in several processes.
`_maybe_symbolic_build` and `_symbolic_build` are Keras's private names;
`tests/test_private_apis.py` checks them.
"""

from collections.abc import Callable
from typing import Any

import keras


def build_from_spec(model: keras.Model, spec: Callable[[], Any]) -> None:
    """Lets `fit` and `evaluate` create variables without taking a batch.

    Args:
        model: Model that was created under a strategy.
        spec: Returns the `element_spec` of a replica's batches, or `None` to do as Keras does.
    """
    original = model._maybe_symbolic_build

    def build(iterator=None, data_batch=None):
        known = spec()
        if iterator is None or known is None:
            return original(iterator=iterator, data_batch=data_batch)
        with model.distribute_strategy.scope():
            model._symbolic_build(data_batch=known)

    object.__setattr__(model, "_maybe_symbolic_build", build)
