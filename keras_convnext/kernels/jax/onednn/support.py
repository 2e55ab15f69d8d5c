"""Where JAX may call oneDNN, and what oneDNN takes.

Given settings or values that it does not know, oneDNN ends the process. So it is only called with
the versions of jaxlib and the kind of machine that this was tried with.
"""

import functools
import os
import platform
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib

TRIED_VERSIONS = (  # of jaxlib; with 0.8.0 oneDNN ended the process
    *("0.8.1", "0.8.2", "0.8.3"),
    *("0.9.0", "0.9.1", "0.9.2"),
    *("0.10.0", "0.10.1", "0.10.2"),
)


@functools.cache
def has_onednn() -> bool:
    """Returns whether XLA's calls of oneDNN may be used here."""
    return (
        jaxlib.__version__ in TRIED_VERSIONS
        and (platform.system(), platform.machine()) == ("Linux", "x86_64")
        and "avx2" in _flags_of_the_processor()
        # Values that are spread over several devices would be gathered on each for a custom call.
        and jax.default_backend() == "cpu"
        and jax.device_count() == 1
    )


def takes(*operands) -> bool:
    """Returns whether oneDNN takes these arrays: of a type it knows, neither empty nor open."""
    dtypes = {x.dtype for x in operands}
    if len(dtypes) > 1 or not dtypes <= _dtypes():
        return False
    return all(isinstance(side, int) and side > 0 for x in operands for side in x.shape)


@functools.cache
def _dtypes() -> frozenset:
    dtypes = {jnp.dtype("float32")}
    # oneDNN can be told to leave out what a processor has, and then refuses bfloat16.
    if "avx512_bf16" in _flags_of_the_processor() and "ONEDNN_MAX_CPU_ISA" not in os.environ:
        dtypes.add(jnp.dtype("bfloat16"))
    return frozenset(dtypes)


@functools.cache
def _flags_of_the_processor() -> frozenset[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())
