"""The processes and devices that PyTorch has."""

import os


def launched_processes() -> int:
    """Returns the number of processes that `torchrun` started."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def visible_devices() -> int:
    """Returns the number of devices of this process, which is 1: `torchrun` starts one for each."""
    return 1
