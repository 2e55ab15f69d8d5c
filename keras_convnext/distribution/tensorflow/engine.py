"""Training on several devices with TensorFlow."""

import contextlib
from typing import Any

import keras
import tensorflow as tf

from keras_convnext.distribution.engine import Engine, MakeShard
from keras_convnext.distribution.tensorflow.batches import split_batches
from keras_convnext.distribution.tensorflow.devices import choose_devices
from keras_convnext.distribution.tensorflow.keras_build import build_from_spec
from keras_convnext.errors import UserError
from keras_convnext.text import counted


def make_engine(
    name: str = "data_parallel", devices: int | None = None, model_shards: int | None = None
) -> Engine:
    """Returns the engine that trains with TensorFlow.

    Call it before TensorFlow is first used, and create the model within its `scope()`.

    Args:
        name: `"data_parallel"`: every device has the whole model and a share of each batch.
        devices: Number of devices; defaults to `None`, all GPUs. Without GPUs that many CPU devices
            are made, for tests; see `devices.choose_devices`.
        model_shards: Not used with TensorFlow, where every device has the whole model.

    Raises:
        UserError: If there are fewer devices, or TensorFlow cannot train in this way.

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
        batches = split_batches(make(self.rank, self.processes), self._replicas)
        self._spec = batches.element_spec
        return self.strategy.distribute_datasets_from_function(lambda context: batches)


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
