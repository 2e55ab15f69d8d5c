"""Starts the command line on several devices, as a user of each backend does."""

import json
import os
import socket
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
        timeout=300,
    )
    return process.returncode, process.stdout


def free_port() -> int:
    """Returns a TCP port of this machine that nobody uses."""
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]


def start_processes(count: int, *arguments) -> list[subprocess.Popen]:
    """Starts Python in several processes of one run, each with one device.

    Args:
        count: Number of processes.
        *arguments: The arguments of Python.
    """
    ports = [free_port() for _ in range(count)]
    return [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1", **_environment(rank, count, ports)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(count)
    ]


def _environment(rank, count, ports):
    backend = keras.backend.backend()
    if backend == "jax":
        return {
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{ports[0]}",
            "KERAS_DISTRIBUTION_NUM_PROCESSES": str(count),
            "KERAS_DISTRIBUTION_PROCESS_ID": str(rank),
        }
    if backend == "tensorflow":
        workers = [f"127.0.0.1:{port}" for port in ports]
        task = {"type": "worker", "index": rank}
        return {"TF_CONFIG": json.dumps({"cluster": {"worker": workers}, "task": task})}
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count}
    names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": ports[0]}
    return {name: str(value) for name, value in names.items()}
