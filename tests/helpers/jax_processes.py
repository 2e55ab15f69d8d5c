"""Starts programs as the processes of one run, on this machine."""

import socket
from pathlib import Path

import quick_python

HELPERS = Path(__file__).parent


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def start(program: str, *arguments, address: str, processes: int, process: int, **environment):
    """Starts a program of this folder as one of several processes."""
    group = {
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": address,
        "KERAS_DISTRIBUTION_NUM_PROCESSES": str(processes),
        "KERAS_DISTRIBUTION_PROCESS_ID": str(process),
    }
    return quick_python.start(HELPERS / program, *arguments, environment=group | environment)


def outputs(processes, timeout: int = 400) -> list[str]:
    """Waits for the processes to end, and returns what they printed."""
    try:
        return [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
