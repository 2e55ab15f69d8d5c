"""Training on several devices and in several processes with JAX."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import keras

from keras_convnext.distribution.engine import Engine, MakeShard
from keras_convnext.distribution.jax import exchange, process_group
from keras_convnext.distribution.jax.evaluation import EvaluationBatches
from keras_convnext.distribution.jax.keras_private import (
    layouts_of_each_batch,
    own_copies_of_variables,
)
from keras_convnext.distribution.jax.layouts import data_parallel, model_parallel
from keras_convnext.distribution.jax.place import batches_of_shards
from keras_convnext.errors import UserError

DATA_PARALLEL, MODEL_PARALLEL = "data_parallel", "model_parallel"


def make_engine(
    name: str,
    devices: int | None = None,
    model_shards: int | None = None,
    timeout: float | None = None,
) -> "JaxEngine":
    """Returns the engine that spreads a run over devices, and joins its processes.

    Several processes run the same program, each with its own devices. What Keras reads in
    `keras.distribution.initialize` says which: the environment variables
    `KERAS_DISTRIBUTION_JOB_ADDRESSES`, `KERAS_DISTRIBUTION_NUM_PROCESSES` and
    `KERAS_DISTRIBUTION_PROCESS_ID`. Under `srun` and Open MPI's `mpirun` JAX finds out by itself.

    Call it before anything that computes on a device. On a machine without GPUs, `devices=N` then
    makes N devices of its CPU, to try things out.

    Args:
        name: `"data_parallel"`: each device has the whole model and an equal part of each batch.
            `"model_parallel"`: several devices also share the wide kernels of a model.
        devices: Number of devices over all processes; each has as many. Defaults to all.
        model_shards: Devices that share a model with `"model_parallel"`, otherwise not used.
            Defaults to all devices.
        timeout: Seconds to wait for the other processes. Defaults to the environment variable
            `KERAS_CONVNEXT_START_TIMEOUT`, or to 300.

    Raises:
        UserError: If there are too few devices, they cannot be shared equally, or the processes
            could not be joined.

    Example:
        >>> engine = make_engine("data_parallel", devices=4)
        >>> with engine.scope():
        ...     model = keras_convnext.ConvNeXtTiny(weights=None)
    """
    _check_name(name)
    group = None
    if not process_group.is_joined():
        group = process_group.group_of_environment()
        if devices is not None:
            _make_cpu_devices(max(devices // process_group.launched_processes(), 1))
    if group is not None:
        process_group.join(group, timeout)
    chosen = _choose_devices(devices)
    if name == DATA_PARALLEL:
        return JaxEngine(data_parallel(chosen), group)
    return JaxEngine(_model_parallel(chosen, model_shards), group)


def _check_name(name: str) -> None:
    if name not in (DATA_PARALLEL, MODEL_PARALLEL):
        raise UserError(
            f"On JAX the distribution must be '{DATA_PARALLEL}' or '{MODEL_PARALLEL}'. "
            f"Received: {name!r}."
        )


def _make_cpu_devices(count: int) -> None:
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    # Too late if JAX has been used, and before JAX 0.5 there is no such setting. GPUs are counted
    # as they are.
    with contextlib.suppress(RuntimeError, AttributeError):
        jax.config.update("jax_num_cpu_devices", count)


def _choose_devices(count: int | None) -> list[str]:
    """Returns the names of the first devices of each process, process by process."""
    processes, available = jax.process_count(), jax.devices()
    each = jax.local_device_count() if count is None else count // processes
    if count is not None and (count < 1 or count % processes):
        raise UserError(
            f"`devices` must be a multiple of the number of processes, {processes}, so that each "
            f"has as many. Received: devices={count}."
        )
    ordered = sorted(available, key=lambda device: (device.process_index, device.id))
    by_process = [[d for d in ordered if d.process_index == rank] for rank in range(processes)]
    counts = [len(some) for some in by_process]
    if len(set(counts)) > 1:
        raise UserError(
            f"Every process must have as many devices. They have {counts}, in order of their ranks."
        )
    if counts[0] < each:
        raise UserError(
            f"The run asks for {count or each * processes} devices, {each} in each process, but "
            f"JAX finds only {counts[0]} ({available[0].platform}). Ask for fewer, or for none "
            f"to use all. On a CPU set XLA_FLAGS=--xla_force_host_platform_device_count={each} to "
            f"make as many of it."
        )
    return [f"{d.platform}:{d.id}" for some in by_process for d in some[:each]]


def _model_parallel(devices: Sequence[str], shards: int | None) -> Any:
    count = len(devices)
    shards = count if shards is None else shards
    if jax.process_count() > 1:
        raise UserError(
            f"'{MODEL_PARALLEL}' works within one process, whose devices share the model. Start "
            f"one process, or choose '{DATA_PARALLEL}'."
        )
    if shards < 1 or count % shards:
        raise UserError(
            f"`model_shards` must divide the number of devices, {count}. "
            f"Received: model_shards={shards}."
        )
    return model_parallel(devices, shards)


class JaxEngine(Engine):
    """Devices in one or several processes that compute each step together.

    JAX runs one program on all of them and adds up the gradients in it. All processes must
    therefore call `fit`, `evaluate` and everything that assigns to variables alike, also where only
    the process with rank 0 writes files.

    Args:
        distribution: The layout of images and weights.
        group: The processes that `close` leaves. Defaults to none.
    """

    def __init__(
        self,
        distribution: keras.distribution.DataParallel,
        group: process_group.Group | None = None,
    ) -> None:
        self.distribution = distribution
        self.rank = jax.process_index()
        self.processes = jax.process_count()
        self.devices = distribution.device_mesh.devices.size
        self.data_shards = distribution.num_model_replicas
        self._group = group
        if group is not None:
            self.main_host = group.main_host or exchange.broadcast(socket.gethostname())

    def describe(self) -> str:
        """Returns the devices in words, such as `4 GPUs in 2 processes`."""
        kind = str(self.distribution.device_mesh.devices.flat[0]).partition(":")[0].upper()
        many = "" if self.devices == 1 else ("s" if kind != "CPU" else " devices")
        text = f"{self.devices} {kind}{many}"
        shards = self.devices // self.data_shards
        if shards > 1:
            text += f", {shards} for each model"
        return text if self.processes == 1 else f"{text} in {self.processes} processes"

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Makes the distribution Keras's, within the context."""
        with contextlib.ExitStack() as contexts:
            contexts.enter_context(self.distribution.scope())
            contexts.enter_context(layouts_of_each_batch())
            if self.processes > 1:
                contexts.enter_context(own_copies_of_variables())
                contexts.enter_context(batches_of_shards(self.processes))
            yield

    def run_alone(self, function: Callable[[], None]) -> None:
        """Calls a function outside the distribution, where JAX would compare new arrays."""
        keras.distribution.set_distribution(None)
        try:
            function()
        finally:
            keras.distribution.set_distribution(self.distribution)

    def training_data(self, make: MakeShard) -> Any:
        """Returns what `fit` takes: the images of this process."""
        return make(self.rank, self.processes)

    def evaluation_data(self, make: MakeShard) -> Any:
        """Returns what `evaluate` takes: every image once."""
        dataset = make(self.rank, self.processes)
        if self.processes == 1:
            return dataset
        return EvaluationBatches(dataset, self.distribution)

    def broadcast(self, value: Any) -> Any:
        """Returns the value that the process with rank 0 passed; any picklable object."""
        return exchange.broadcast(value)

    def gather(self, value: Any) -> list[Any]:
        """Returns the values that all processes passed, in the order of their ranks."""
        return exchange.gather(value)

    def close(self) -> None:
        """Leaves the group of processes; see `process_group.leave`."""
        if self._group is not None:
            process_group.leave()
            self._group = None
