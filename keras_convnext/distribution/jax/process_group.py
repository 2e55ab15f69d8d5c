"""Joins the processes of a run with `jax.distributed`, as the environment of each process says."""

import contextlib
import inspect
import os
import socket
import sys
import threading
from dataclasses import dataclass
from typing import Any

import jax

from keras_convnext.distribution.start_timeout import TIMEOUT, start_timeout
from keras_convnext.errors import UserError

ADDRESSES = "KERAS_DISTRIBUTION_JOB_ADDRESSES"
PROCESSES = "KERAS_DISTRIBUTION_NUM_PROCESSES"
PROCESS = "KERAS_DISTRIBUTION_PROCESS_ID"

# Set in each process that these start. JAX then finds out the rest.
SIZES_BY_LAUNCHER = {"srun": "SLURM_STEP_NUM_TASKS", "mpirun": "OMPI_COMM_WORLD_SIZE"}

HEARTBEAT_SECONDS = 30  # without a sign of life, until JAX ends all other processes
STARTED_TOO_LATE = (
    "JAX was used before the processes were joined, and cannot be spread over them any more. Call "
    "`make_engine` before anything that computes on a device."
)


@dataclass(frozen=True)
class Group:
    """The processes to join, as far as the environment says.

    Attributes:
        address: Where process 0 is reached, as `host:port`; `None` if JAX finds out.
        processes: Number of processes; `None` if JAX finds out.
        process: Number of this process; `None` if JAX finds out.
    """

    address: str | None = None
    processes: int | None = None
    process: int | None = None

    @property
    def main_host(self) -> str | None:
        """The host of process 0, if it is known."""
        return None if self.address is None else self.address.rpartition(":")[0].strip("[]")


def group_of_environment() -> Group | None:
    """Returns the group that the environment describes; `None` for a process on its own.

    Raises:
        UserError: If a variable is missing or has a wrong value.
    """
    values = {name: os.environ.get(name) for name in (ADDRESSES, PROCESSES, PROCESS)}
    missing = [name for name, value in values.items() if not value]
    if len(missing) == len(values):
        return Group() if _launcher_size() > 1 else None
    if missing:
        raise UserError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set. To train in "
            f"several processes, set {ADDRESSES} to the host and port of process 0, {PROCESSES} to "
            f"their number, and {PROCESS} to 0, 1, ... in each; for one process set none of them."
        )
    processes, process = _number(PROCESSES), _number(PROCESS)
    if not 0 <= process < processes:
        raise UserError(
            f"{PROCESS} must be from 0 to {processes - 1}, since {PROCESSES} is {processes}. "
            f"Received: {process}."
        )
    return Group(_address_of_first(os.environ[ADDRESSES], processes), processes, process)


def launched_processes() -> int:
    """Returns the number of processes that this one was started with, as the environment says."""
    group = group_of_environment()
    if group is None:
        return 1
    return _launcher_size() if group.processes is None else group.processes


def _launcher_size() -> int:
    sizes = (os.environ.get(name, "") for name in SIZES_BY_LAUNCHER.values())
    return max((int(size) for size in sizes if size.isdecimal()), default=1)


def _number(name: str) -> int:
    value = os.environ[name]
    if not value.isdecimal():
        raise UserError(f"{name} must be a whole number. Received: {value!r}.")
    return int(value)


def _address_of_first(addresses: str, processes: int) -> str:
    first, *others = addresses.split(",")
    if others and len(others) + 1 != processes:
        raise UserError(
            f"{ADDRESSES} must have one address, that of process 0, or one for each of the "
            f"{processes} processes that {PROCESSES} names. Received: {addresses!r}."
        )
    host, _, port = first.rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(
            f"{ADDRESSES} must be a host and a port, such as 10.0.0.1:1234. Received: {first!r}."
        )
    return first


def join(group: Group, timeout: float | None = None) -> None:
    """Waits for all processes of the group; afterwards JAX sees the devices of all.

    If a process dies later, JAX ends the others after `HEARTBEAT_SECONDS`, or sooner.

    Args:
        group: The group.
        timeout: How long to wait, in seconds. Defaults to the environment variable
            `KERAS_CONVNEXT_START_TIMEOUT`, or to 300.

    Raises:
        UserError: If not all processes joined in time, or JAX was used before.
    """
    if "heartbeat_timeout_seconds" not in inspect.signature(jax.distributed.initialize).parameters:
        raise UserError(
            f"JAX {jax.__version__} waits too long for a process that has died. Install a newer "
            f"one to train in several processes: pip install -U jax."
        )
    seconds = start_timeout(timeout)
    with contextlib.suppress(AttributeError):  # of JAX versions without it
        # It would catch the signal that asks a process to end.
        jax.config.update("jax_enable_preemption_service", False)
    errors: list[Exception] = []

    def initialize() -> None:
        try:
            jax.distributed.initialize(**_arguments(group, seconds))
        except Exception as error:  # to be raised where `join` was called
            errors.append(error)

    # When its own time is over, JAX ends the process without an exception.
    thread = threading.Thread(target=initialize, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise UserError(_late(group, seconds))
    if errors:
        raise UserError(_reason(errors[0], group)) from errors[0]


def is_joined() -> bool:
    """Returns whether this process has joined others, here or by `keras.distribution`."""
    # Before JAX 0.5 there is no such function, and `join` refuses.
    return getattr(jax.distributed, "is_initialized", bool)()


def leave() -> None:
    """Leaves the group; waits until all processes do.

    While an exception is being handled it does nothing, since the others may be waiting for this
    process. JAX then leaves when the process ends, after the error has been reported.
    """
    if sys.exc_info()[0] is None:
        jax.distributed.shutdown()


def _arguments(group: Group, seconds: float) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "initialization_timeout": int(seconds) + 3600,
        "heartbeat_timeout_seconds": HEARTBEAT_SECONDS,
    }
    if group.address is not None:
        arguments["coordinator_address"] = group.address
        arguments["num_processes"] = group.processes
        arguments["process_id"] = group.process
        arguments["cluster_detection_method"] = "deactivate"
    return arguments


def _late(group: Group, seconds: float) -> str:
    if group.address is None:
        return f"The processes of this run did not all start within {seconds:.0f} seconds."
    waited = f"Process {group.process} of {group.processes} waited {seconds:.0f} seconds, but "
    if _answers(group.address):
        return (
            f"{waited}not all processes came to {group.address}. Start all {group.processes}, with "
            f"the same {ADDRESSES} and {PROCESSES} and their own {PROCESS}, or wait longer: "
            f"{TIMEOUT}=SECONDS."
        )
    return (
        f"{waited}nothing answers at {group.address}. Check that {ADDRESSES} is the host and port "
        f"of process 0, that process 0 is running, and that no firewall is in between."
    )


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def _reason(error: Exception, group: Group) -> str:
    if "must be called before" in str(error):
        return STARTED_TOO_LATE
    where = "" if group.address is None else f" at {group.address}"
    return f"The processes could not be joined{where}: {error}"
