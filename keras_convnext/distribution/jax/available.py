"""The processes and devices that JAX has."""

import os

import jax


def launched_processes() -> int:
    """Returns the number of processes that this one was started with, as the environment says.

    `keras.distribution.initialize` reads the same variable.
    """
    return int(os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES") or 1)


def visible_devices() -> int:
    """Returns the number of devices of this process."""
    return jax.local_device_count()
