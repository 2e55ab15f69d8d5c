"""What XLA's compiler leaves behind, given back to the system.

Compiling a train step on CPU takes several hundred MiB, of a thousand small pieces. Freed, they
stay with the C library, in gaps that the network's large arrays do not fit into.
"""

import ctypes
import functools
import sys
from collections.abc import Callable

import jax.monitoring

COMPILED = "/jax/core/compile/backend_compile_duration"
LEAST_SECONDS = 1.0  # of compiling that is worth looking through the memory, a tenth of a second


@functools.cache
def give_back_after_compiling() -> None:
    """Has what the C library keeps given back after long compilations, from now on."""
    trim = _trim()
    if trim is None:
        return

    def give_back(event: str, duration_secs: float, **_: str | int) -> None:
        if event == COMPILED and duration_secs >= LEAST_SECONDS:
            trim(0)

    jax.monitoring.register_event_duration_secs_listener(give_back)


def _trim() -> Callable[[int], int] | None:
    """Returns `malloc_trim` of the GNU C library; `None` where another one is used."""
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
