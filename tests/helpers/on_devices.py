"""Starts the command line on several devices, as a user of each backend does."""

import os
import subprocess
import sys

import keras


def command(devices: int, *arguments, script=("-m", "keras_convnext"), torchrun=()) -> list:
    """Returns the command that trains on that many devices of this machine.

    Args:
        devices: Number of devices; on PyTorch each has a process.
        *arguments: The arguments of `keras-convnext`, which begin with `train`.
        script: What Python runs. Defaults to the command line.
        torchrun: Further options of torchrun.
    """
    if keras.backend.backend() == "torch":
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        return [*launcher, "--nproc-per-node", str(devices), *torchrun, *script, *arguments]
    settings = ["distribution=data_parallel"] if devices == 1 else []
    return [sys.executable, *script, *arguments, *settings, f"distribution.devices={devices}"]


def run(devices: int, *arguments, **options) -> tuple[int, str]:
    """Runs the command; returns its exit status, and all that it printed."""
    process = subprocess.run(
        command(devices, *arguments, **options),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    return process.returncode, process.stdout
