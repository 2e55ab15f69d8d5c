"""Runs test files in a process of their own whose JAX sees several devices, and reads programs."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)
QUICK_COMPILATION = "--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8}


def run_tests_on(devices: int, path: Path, timeout: int = 600) -> None:
    """Runs the tests of a file, which pytest does not collect itself, on devices of the CPU."""
    flags = (*QUICK_COMPILATION, f"--xla_force_host_platform_device_count={devices}")
    process = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", path],
        env=os.environ | {"XLA_FLAGS": " ".join(flags)},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert process.returncode == 0, process.stdout + process.stderr


def collectives(program: str) -> list[tuple[str, list[tuple[str, tuple[int, ...]]]]]:
    """Returns the collective operations of a compiled program, with dtypes and shapes of results.

    Args:
        program: `jitted.lower(...).compile().as_text()`.
    """
    found = []
    for line in program.splitlines():
        match = re.match(rf"\s*(?:ROOT )?\S+ = (.*?) ({'|'.join(COLLECTIVES)})(?:-start)?\(", line)
        if match:
            results = re.findall(r"(\w+)\[([\d,]*)\]", match[1])
            shapes = [(dtype, tuple(map(int, filter(None, s.split(","))))) for dtype, s in results]
            found.append((match[2], shapes))
    return found


def size_in_bytes(arrays: Iterable[tuple[str, tuple[int, ...]]]) -> int:
    """Returns the bytes of arrays that are described as in `collectives`."""
    return sum(BYTES[dtype] * int(np.prod(shape)) for dtype, shape in arrays)
