"""The engine for PyTorch: the processes that torchrun starts, with one device each."""

import os
from typing import Any

import keras
import torch
import torch.distributed as dist

from keras_convnext.distribution.engine import Engine, MakeShard
from keras_convnext.distribution.torch import processes
from keras_convnext.distribution.torch.data_parallel import data_parallel, detach
from keras_convnext.errors import UserError

START = "torchrun --nproc-per-node {} -m keras_convnext train RECIPE"


def make_engine(
    name: str,
    devices: int | None = None,
    model_shards: int | None = None,
    timeout: float | None = None,
) -> Engine:
    """Returns the engine of a distribution, after all processes have joined.

    Args:
        name: `"data_parallel"`.
        devices: Number of devices, and so of processes. Defaults to `None`, all that torchrun
            started.
        model_shards: Not used on PyTorch, where every device has the whole model.
        timeout: Seconds within which all processes must start. Defaults to the environment variable
            KERAS_CONVNEXT_START_TIMEOUT or, if it is not set, to 300.

    Raises:
        UserError: If there is no such distribution on PyTorch, the number of processes differs from
            `devices`, or they cannot be joined; see `processes.join`.
    """
    if name != "data_parallel":
        raise UserError(
            f"On PyTorch the distribution must be 'data_parallel'; the weights of a model are "
            f"split over devices ('model_parallel') only on JAX. Received: {name!r}."
        )
    if not processes.is_started_by_torchrun():
        _check_one_device(devices)
        return Engine()
    processes.join(timeout)
    if devices not in (None, processes.count()):
        started = processes.count()
        processes.leave()
        raise UserError(
            f"On PyTorch every device has a process of its own, so torchrun must start as many as "
            f"the {devices} devices asked for; it started {started}. Start {START.format(devices)} "
            f"on one host; on several, --nnodes times --nproc-per-node must be {devices}."
        )
    return DataParallel()


def _check_one_device(devices: int | None) -> None:
    here = torch.cuda.device_count() if processes.on_gpu() else 1
    wanted = here if devices is None else devices
    if wanted > 1:
        raise UserError(
            f"{wanted} devices need {wanted} processes on PyTorch, and this is one. Start "
            f"{START.format(wanted)}."
        )


class DataParallel(Engine):
    """The processes of torchrun, each with a device and a share of every step's images."""

    def __init__(self) -> None:
        self.rank = processes.rank()
        self.processes = self.devices = self.data_shards = processes.count()
        self.main_host = os.environ.get("MASTER_ADDR", "localhost")
        self._models: list[keras.Model] = []

    def describe(self) -> str:
        """Returns the devices in words, and the threads of each process on CPUs."""
        if processes.on_gpu():
            return f"{self.devices} GPUs in {self.processes} processes"
        threads = torch.get_num_threads()
        return f"CPUs in {self.processes} processes with {threads} " + (
            "thread each" if threads == 1 else "threads each"
        )

    def attach(self, model: keras.Model) -> None:
        """Prepares a compiled model; see `data_parallel`."""
        data_parallel(model)
        self._models.append(model)

    def training_data(self, make: MakeShard) -> Any:
        """Returns this process's share."""
        return make(self.rank, self.processes)

    def evaluation_data(self, make: MakeShard) -> Any:
        """Returns this process's share."""
        return make(self.rank, self.processes)

    def broadcast(self, value: Any) -> Any:
        """Returns the value that the process with rank 0 passed; any picklable object."""
        values = [value]
        dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def gather(self, value: Any) -> list[Any]:
        """Returns the values that all processes passed, in the order of their ranks."""
        values: list[Any] = [None] * self.processes
        dist.all_gather_object(values, value)
        return values

    def close(self) -> None:
        """Leaves the group of processes; the models are trained in one process from then on."""
        for model in self._models:
            detach(model)
        processes.leave()
