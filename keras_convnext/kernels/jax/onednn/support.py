"""Where JAX can call oneDNN, and with which arrays.

oneDNN ends the process if it gets settings or values that it does not know. So it is called only
with the jaxlib versions and the kind of machine that were tested.
"""

import functools
import os
import platform
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib

from keras_convnext.kernels.jax.batch_sharding import has_whole_arrays

TESTED_VERSIONS = (  # of jaxlib; with 0.8.0 oneDNN ended the process
    *("0.8.1", "0.8.2", "0.8.3"),
    *("0.9.0", "0.9.1", "0.9.2"),
    *("0.10.0", "0.10.1", "0.10.2"),
)


@functools.cache
def has_onednn() -> bool:
    """Returns whether XLA's calls of oneDNN can be used here."""
    return (
        jaxlib.__version__ in TESTED_VERSIONS
        and (platform.system(), platform.machine()) == ("Linux", "x86_64")
        and "avx2" in _cpu_flags()
        and jax.default_backend() == "cpu"
    )


def is_supported(*operands) -> bool:
    """Returns whether oneDNN accepts these arrays.

    They must have one known dtype, and must not be empty or symbolic. They must not be sharded
    either: for a custom call XLA would gather them on every device.
    """
    if not has_whole_arrays():
        return False
    dtypes = {x.dtype for x in operands}
    if len(dtypes) > 1 or not dtypes <= _dtypes():
        return False
    return all(isinstance(side, int) and side > 0 for x in operands for side in x.shape)


@functools.cache
def _dtypes() -> frozenset:
    dtypes = {jnp.dtype("float32")}
    # This variable can disable instructions of the CPU, and oneDNN then refuses bfloat16.
    if "avx512_bf16" in _cpu_flags() and "ONEDNN_MAX_CPU_ISA" not in os.environ:
        dtypes.add(jnp.dtype("bfloat16"))
    return frozenset(dtypes)


@functools.cache
def _cpu_flags() -> frozenset[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())
