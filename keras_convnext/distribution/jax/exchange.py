"""Values that processes exchange over JAX's devices."""

import pickle
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def gather(value: Any) -> list[Any]:
    """Returns the values of all processes, in the order of their ranks; any picklable objects."""
    if jax.process_count() == 1:
        return [value]
    own = np.frombuffer(pickle.dumps(value), np.uint8)
    sizes = multihost_utils.process_allgather(np.array(own.size, np.int32))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: own.size] = own
    rows = multihost_utils.process_allgather(padded)
    return [pickle.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def broadcast(value: Any) -> Any:
    """Returns the value of the process with rank 0; any picklable object."""
    if jax.process_count() == 1:
        return value
    is_source = jax.process_index() == 0
    own = np.frombuffer(pickle.dumps(value) if is_source else b"", np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.array(own.size, np.int32)))
    own = own if is_source else np.zeros(size, np.uint8)
    return pickle.loads(multihost_utils.broadcast_one_to_all(own).tobytes())
