"""The processes and devices that JAX has."""

import jax

from keras_convnext.distribution.jax.process_group import launched_processes

__all__ = ["launched_processes", "visible_devices"]


def visible_devices() -> int:
    """Returns the number of devices of this process, which cannot join others afterwards."""
    return jax.local_device_count()
