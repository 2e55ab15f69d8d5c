"""Starts programs as the processes of one run, on this machine."""

import os
import socket
import subprocess
import sys
from pathlib import Path

HELPERS = Path(__file__).parent


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def start(program: str, *arguments, address: str, processes: int, process: int, **environment):
    """Starts a program of this folder as one of several processes."""
    return subprocess.Popen(
        [sys.executable, HELPERS / program, *map(str, arguments)],
        env=os.environ
        | {
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": address,
            "KERAS_DISTRIBUTION_NUM_PROCESSES": str(processes),
            "KERAS_DISTRIBUTION_PROCESS_ID": str(process),
        }
        | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def outputs(processes, timeout: int = 400) -> list[str]:
    """Waits for the processes to end, and returns what they printed."""
    try:
        return [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
