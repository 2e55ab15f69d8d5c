"""Describes what a measurement depends on besides the code: machine, versions and settings."""

import os
import platform
import subprocess
from pathlib import Path

from keras_convnext.runtime import describe_python

PACKAGES = (
    "keras-convnext",
    "keras",
    "tensorflow",
    "jax",
    "torch",
    "timm",
    "transformers",
    "numpy",
)
# Environment variables that change the speed of the same code.
SETTINGS = (
    "GLIBC_TUNABLES",
    "KERAS_CONVNEXT_KERNELS",
    "LD_PRELOAD",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "TF_ENABLE_ONEDNN_OPTS",
    "XLA_FLAGS",
)


def describe_machine() -> dict[str, object]:
    """Returns the processor, the number of usable cores, the GPUs, versions and settings."""
    settings = {name: os.environ[name] for name in SETTINGS if name in os.environ}
    hardware = {"processor": _processor(), "gpus": _gpus()}
    return {**hardware, **describe_python(PACKAGES), "environment": settings}


def _processor() -> str:
    """Returns the processor's name and its extensions for matrix multiplication."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    pairs = (line.partition(":") for line in lines)
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    flags = fields.get("flags", "").split()
    known = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX-512 BF16", "amx_bf16": "AMX"}
    extensions = ", ".join(name for flag, name in known.items() if flag in flags)
    name = fields.get("model name", platform.processor())
    return f"{name} ({extensions})" if extensions else name


def _gpus() -> list[str]:
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    except FileNotFoundError:
        return []
