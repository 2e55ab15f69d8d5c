"""Returns the memory that XLA's compiler leaves behind to the operating system.

Compiling a train step on CPU takes several hundred MiB in a thousand small allocations. Once freed,
they stay with the C library, in gaps too small for the arrays of the network.
"""

import ctypes
import functools
import sys
from collections.abc import Callable

import jax.monitoring

# The event's name is not documented; JAX 0.4.31 to 0.10 record it.
COMPILED = "/jax/core/compile/backend_compile_duration"
MIN_SECONDS = 1.0  # of a compilation after which trimming, a tenth of a second, pays off


@functools.cache
def trim_after_compiling() -> None:
    """Calls `malloc_trim` after every long compilation from now on; later calls do nothing."""
    trim = _malloc_trim()
    if trim is None:
        return

    def listener(event: str, duration_secs: float, **_: str | int) -> None:
        if event == COMPILED and duration_secs >= MIN_SECONDS:
            trim(0)

    jax.monitoring.register_event_duration_secs_listener(listener)


def _malloc_trim() -> Callable[[int], int] | None:
    """Returns `malloc_trim` of the GNU C library; `None` if another C library is used."""
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
