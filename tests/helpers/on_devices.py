"""Trains with the command line on several devices, as a user of each backend does."""

import keras
import quick_python
from local_processes import environments

COMMAND_LINE = ("-m", "keras_convnext")


def start(processes: int, *arguments, script=COMMAND_LINE) -> list[quick_python.QuickPython]:
    """Starts the command line in several processes of one run.

    Args:
        processes: Number of processes, of one device each.
        *arguments: The arguments of `keras-convnext`, which begin with `train`.
        script: What Python runs. Defaults to the command line.
    """
    return [
        quick_python.start(*script, *arguments, environment=environment)
        for environment in environments(keras.backend.backend(), processes)
    ]


def run(devices: int, *arguments, script=COMMAND_LINE) -> tuple[list[int], str]:
    """Trains on devices of this machine; returns exit statuses, and what the first process printed.

    The devices are in one process, but on PyTorch each has a process.
    """
    if keras.backend.backend() == "torch":
        processes = start(devices, *arguments, script=script)
    else:
        settings = ("distribution=data_parallel", f"distribution.devices={devices}")
        environment = {"OMP_NUM_THREADS": "1"}
        processes = [quick_python.start(*script, *arguments, *settings, environment=environment)]
    printed = outputs(processes)
    return [process.returncode for process in processes], printed[0]


def outputs(processes: list[quick_python.QuickPython], timeout: int = 300) -> list[str]:
    """Waits for processes to end, and returns what each printed."""
    try:
        return [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
