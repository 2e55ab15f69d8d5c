"""Starts the processes of one run on this machine, as each backend expects them."""

import json
import os
import socket
import subprocess
import sys


def start_processes(backend: str, count: int, *arguments: object) -> list[subprocess.Popen]:
    """Starts Python in several processes of one run, each with one device and one thread.

    Args:
        backend: Name of the Keras backend.
        count: Number of processes.
        *arguments: The arguments of Python.
    """
    return [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for environment in environments(backend, count)
    ]


def environments(backend: str, count: int) -> list[dict[str, str]]:
    """Returns the environment variables of each process, in the order of their ranks."""
    ports = [free_port() for _ in range(count)]
    settings = {"KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1"}
    return [settings | _variables(backend, rank, count, ports) for rank in range(count)]


def free_port() -> int:
    """Returns a TCP port of this machine that nobody uses."""
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]


def _variables(backend: str, rank: int, count: int, ports: list[int]) -> dict[str, str]:
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
