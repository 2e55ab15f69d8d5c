"""Training on several devices with TensorFlow."""

import contextlib
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_convnext.distribution.engine import Engine, MakeShard
from keras_convnext.distribution.start_timeout import start_timeout
from keras_convnext.distribution.tensorflow.batches import set_steps, split_batches
from keras_convnext.distribution.tensorflow.cluster import (
    Cluster,
    host_of,
    read_cluster,
)
from keras_convnext.distribution.tensorflow.devices import choose_devices, choose_of_process
from keras_convnext.distribution.tensorflow.keras_build import build_from_spec
from keras_convnext.distribution.tensorflow.multi_worker import join
from keras_convnext.errors import UserError
from keras_convnext.text import counted


def make_engine(
    name: str = "data_parallel",
    devices: int | None = None,
    model_shards: int | None = None,
    timeout: float | None = None,
) -> Engine:
    """Returns the engine that trains with TensorFlow, after all processes have joined.

    Without `TF_CONFIG` it is one process with several devices. Call it before TensorFlow is first
    used, and create the model within its `scope()`.

    Args:
        name: `"data_parallel"`: every device has the whole model and a share of each batch.
        devices: Number of devices, over all processes. Defaults to `None`, all GPUs. Without GPUs,
            one process makes that many CPU devices, for tests; see `devices.choose_devices`. Of
            several processes each has one.
        model_shards: Not used with TensorFlow, where every device has the whole model.
        timeout: Seconds within which all processes must start. Defaults to the environment variable
            KERAS_CONVNEXT_START_TIMEOUT or, if it is not set, to 300.

    Raises:
        UserError: If there are fewer devices, TensorFlow cannot train in this way, or the processes
            cannot be joined; see `cluster.meet`.

    Example:
        >>> engine = make_engine(devices=4)
        >>> with engine.scope():
        ...     model = keras_convnext.ConvNeXtTiny()
        ...     model.compile(keras_convnext.optimizers.AdamW(), "categorical_crossentropy")
        >>> engine.attach(model)
        >>> model.fit(engine.training_data(make_shard))
    """
    if name != "data_parallel":
        raise UserError(
            f"On the TensorFlow backend, training on several devices is 'data_parallel'. Received: "
            f"{name!r}. For 'model_parallel' use the JAX backend."
        )
    cluster = read_cluster()
    if cluster is not None:
        return MultiWorkerEngine(cluster, devices, start_timeout(timeout))
    names = choose_devices(devices)
    return MirroredEngine(names) if len(names) > 1 else Engine()


class _StrategyEngine(Engine):
    """What the engines for strategies of `tf.distribute` share."""

    builds_metrics = True
    strategy: tf.distribute.Strategy
    _spec: Any = None

    @property
    def _replicas(self) -> int:
        """Replicas in this process."""
        return self.devices // self.processes

    def scope(self) -> contextlib.AbstractContextManager:
        return self.strategy.scope()

    def attach(self, model: keras.Model) -> None:
        """Prepares a compiled model for `fit` and `evaluate` on these devices.

        Raises:
            UserError: If the model was not created in `scope()`, or is compiled by XLA.
        """
        if model.distribute_strategy is not self.strategy:
            raise UserError(
                "The model was created outside the engine's `scope()`. Create and compile it "
                "within."
            )
        if model.jit_compile:
            raise UserError(
                "`jit_compile=True` does not work on several devices with TensorFlow. Compile the "
                "model without it."
            )
        build_from_spec(model, lambda: self._spec)

    def training_data(self, make: MakeShard) -> tf.distribute.DistributedDataset:
        return self._distribute(make)

    def evaluation_data(self, make: MakeShard) -> tf.distribute.DistributedDataset:
        return self._distribute(make)

    def _distribute(self, make):
        own = make(self.rank, self.processes)
        batches = split_batches(own, self._replicas)
        self._spec = batches.element_spec
        distributed = self.strategy.distribute_datasets_from_function(lambda context: batches)
        steps = self.gather(int(own.cardinality()))
        if min(steps) >= 0:
            # A process without images in the last step of an evaluation takes part all the same.
            set_steps(distributed, max(steps))
        return distributed


class MirroredEngine(_StrategyEngine):
    """One process with several devices.

    Args:
        names: The devices, such as `["GPU:0", "GPU:1"]`.
    """

    def __init__(self, names: list[str]) -> None:
        self._kind = names[0].partition(":")[0]
        # TensorFlow's default for CPUs would keep a thread waiting for each device and gradient.
        reduction = tf.distribute.ReductionToOneDevice() if self._kind == "CPU" else None
        self.strategy = tf.distribute.MirroredStrategy(names, reduction)
        self.devices = self.data_shards = len(names)

    def describe(self) -> str:
        return counted(self.devices, "GPU" if self._kind == "GPU" else "CPU device")


class MultiWorkerEngine(_StrategyEngine):
    """Several processes, each with its GPUs, or with the CPU as one device.

    Args:
        cluster: The processes.
        devices: Number of devices over all processes, or `None` for all GPUs of each.
        timeout: Seconds within which all processes must start.
    """

    def __init__(self, cluster: Cluster, devices: int | None, timeout: float) -> None:
        self.rank = cluster.rank
        self.processes = len(cluster.addresses)
        self.main_host = host_of(cluster.addresses[0])
        own, self._kind = choose_of_process(devices, self.processes)
        self.strategy = join(cluster, timeout)
        self.devices = self.data_shards = self.strategy.num_replicas_in_sync
        self._gather_rows = self._gather_function()
        self._check_equal(own)

    def _check_equal(self, own):
        counts = self.gather(own)
        if len(set(counts)) > 1:
            raise UserError(
                f"Every process must have as many devices as the others. They have "
                f"{', '.join(map(str, counts))}. Pass `devices`, or set CUDA_VISIBLE_DEVICES."
            )

    def describe(self) -> str:
        kind = "GPU" if self._kind == "GPU" else "CPU device"
        return f"{counted(self.devices, kind)} in {self.processes} processes"

    def broadcast(self, value: Any) -> Any:
        return self._exchange([value] if self.is_main else None)[0][0]

    def gather(self, value: Any) -> list[Any]:
        return self._exchange(value)

    def _exchange(self, value: Any) -> list[Any]:
        """Returns the values of all processes."""
        content = np.frombuffer(pickle.dumps(value), np.uint8)[:, np.newaxis]
        sizes = self._gather_rows([[self.rank, len(content)]]).numpy()
        gathered = self._gather_rows(content).numpy().astype(np.uint8)
        parts = np.split(gathered, np.cumsum(sizes[:, 1])[:-1])
        values = {
            int(rank): pickle.loads(part.tobytes())
            for (rank, _), part in zip(sizes, parts, strict=True)
        }
        return [values[rank] for rank in range(self.processes)]

    def _gather_function(self):
        """Returns a function of a matrix that returns the rows of all processes' matrices."""

        def own(rows):
            # The first replica of each process sends; the others send nothing.
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            return rows[: tf.where(tf.equal(replica % self._replicas, 0), tf.shape(rows)[0], 0)]

        @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int64)])
        def gather(rows):
            return self.strategy.gather(self.strategy.run(own, args=(rows,)), axis=0)

        return gather

    def run_alone(self, function: Callable[[], None]) -> None:
        """Calls a function in a new thread, which is outside the strategy's scope.

        Within, TensorFlow would send the first value of a new variable to the other processes.
        """
        with ThreadPoolExecutor(1) as executor:
            executor.submit(function).result()
