"""The group of processes that torchrun starts."""

import itertools
import os
from collections.abc import Mapping
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from keras_convnext.distribution.start_timeout import TIMEOUT, start_timeout
from keras_convnext.errors import UserError

# Longer than processes wait for the first one to write checkpoints, or for each other's evaluation.
COLLECTIVE_TIMEOUT = timedelta(minutes=30)
NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")
VARIABLES = (*NUMBERS, "MASTER_ADDR")

_joined = itertools.count()  # a process may leave its group and join another


def is_started_by_torchrun() -> bool:
    """Whether this process is one of several that were started to work together."""
    return "RANK" in os.environ or "WORLD_SIZE" in os.environ


def on_gpu() -> bool:
    """Whether Keras puts its variables on a GPU."""
    default = "cuda" if torch.cuda.is_available() else "cpu"
    return os.environ.get("KERAS_TORCH_DEVICE", default).startswith("cuda")


def join(timeout: float | None = None) -> None:
    """Joins the processes that torchrun started, over NCCL on GPUs and gloo on CPUs.

    It does nothing if this process is not one of several, or has joined. On GPUs call it before the
    model is created, so that each process uses no other GPU than its own.

    Args:
        timeout: Seconds within which all processes must start. Defaults to the environment variable
            KERAS_CONVNEXT_START_TIMEOUT or, if it is not set, to 300.

    Raises:
        UserError: If environment variables are missing, there are more processes than GPUs, the
            first process cannot be reached, or not all processes start in time.
    """
    if dist.is_initialized() or not is_started_by_torchrun():
        return
    seconds = start_timeout(timeout)
    numbers = _numbers(os.environ)
    if on_gpu():
        _use_gpu(numbers["LOCAL_RANK"])
    store = _connect(seconds)
    _wait_for_all(store, numbers["RANK"], numbers["WORLD_SIZE"], seconds)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu() else "gloo",
        store=dist.PrefixStore("group", store),
        rank=numbers["RANK"],
        world_size=numbers["WORLD_SIZE"],
        timeout=COLLECTIVE_TIMEOUT,
    )


def leave() -> None:
    """Leaves the group of processes, if this process is in one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Returns the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """Returns the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def _numbers(environment: Mapping[str, str]) -> dict[str, int]:
    missing = [name for name in VARIABLES if not environment.get(name)]
    if missing:
        raise UserError(
            f"This process is to work together with others, but of the environment variables that "
            f"torchrun sets, these are missing: {', '.join(missing)}. Start all processes with "
            f"torchrun, or set all of {', '.join(VARIABLES)}."
        )
    wrong = [name for name in NUMBERS if not environment[name].isdecimal()]
    if wrong:
        values = ", ".join(f"{name}={environment[name]!r}" for name in wrong)
        raise UserError(f"These environment variables must be whole numbers. Received: {values}.")
    numbers = {name: int(environment[name]) for name in NUMBERS}
    if numbers["RANK"] >= numbers["WORLD_SIZE"]:
        raise UserError(
            f"RANK must be less than WORLD_SIZE, the number of processes. Received: "
            f"RANK={numbers['RANK']}, WORLD_SIZE={numbers['WORLD_SIZE']}."
        )
    return numbers


def _use_gpu(number: int) -> None:
    gpus = torch.cuda.device_count()
    if number >= gpus:
        raise UserError(
            f"Every process needs a GPU of its own, but this is process {number + 1} on a host "
            f"with {gpus} GPUs. Start at most that many: torchrun --nproc-per-node {gpus}."
        )
    torch.cuda.set_device(number)


def _connect(seconds: float) -> dist.Store:
    address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    # With the number of processes, the one that keeps the store would wait for the others here,
    # and not know which ones are missing.
    url = "env://?world_size=-1"
    try:
        store, _, _ = next(iter(rendezvous(url, timeout=timedelta(seconds=seconds))))
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(
            f"The first process could not be reached at {address} within {seconds:g} seconds. "
            f"Check that MASTER_ADDR and MASTER_PORT, which torchrun sets from --master-addr and "
            f"--master-port, are those of the host with rank 0, that it has started, and that no "
            f"firewall is between. PyTorch says: {_first_line(error)}"
        ) from error
    return dist.PrefixStore(f"keras_convnext/{next(_joined)}", store)


def _wait_for_all(store: dist.Store, number: int, processes: int, seconds: float) -> None:
    names = [f"started/{other}" for other in range(processes)]
    try:
        store.set(names[number], "yes")
        store.wait(names, timedelta(seconds=seconds))
    except RuntimeError as error:
        raise UserError(
            f"Not all of the {processes} processes started within {seconds:g} seconds"
            f"{_missing(store, names)}. Check that every host runs the same command with the same "
            f"number of processes. A longer wait is set by the environment variable "
            f"{TIMEOUT}."
        ) from error


def _missing(store, names: list[str]) -> str:
    try:
        missing = [str(number) for number, name in enumerate(names) if not store.check([name])]
    except RuntimeError:  # the process that keeps the store has ended
        return ""
    return f"; missing: rank {', '.join(missing)}"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
