"""What a training run asks of the devices and processes it runs on.

`Engine` itself is one process with one device. Each backend has an engine for several.
"""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

MakeShard = Callable[[int, int], Any]  # returns a tf.data.Dataset


class Engine:
    """One process that trains on one device.

    Attributes:
        rank: Number of this process, from 0. The process with rank 0 writes the run's files.
        processes: Number of processes.
        devices: Number of devices over all processes.
        data_shards: Number of equal parts that the images of a step are divided into: one for each
            device, or for each group of devices that share a model.
        builds_metrics: Whether `fit` creates a model's metrics from the shapes of its data.
        main_host: Name or address of the host of the process with rank 0, for the other processes.
    """

    rank: int = 0
    processes: int = 1
    devices: int = 1
    data_shards: int = 1
    builds_metrics: bool = False
    main_host: str = "localhost"

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0

    def describe(self) -> str:
        """Returns the devices in words, such as `4 GPUs in 2 processes`."""
        return "1 device"

    def scope(self) -> contextlib.AbstractContextManager:
        """Returns the context in which the model is created, compiled, restored and trained."""
        return contextlib.nullcontext()

    def run_alone(self, function: Callable[[], None]) -> None:
        """Calls a function that saves models, in one process while the others wait.

        Saving creates variables, for which the processes would have to work together in `scope`.
        """
        function()

    def attach(self, model: "keras.Model") -> None:
        """Prepares a compiled model for `fit` and `evaluate` on these devices.

        All processes must have created it with the same seed, or have copied its variables.
        """

    def training_data(self, make: MakeShard) -> Any:
        """Returns what `fit` takes.

        Args:
            make: Function that takes the index of a shard and the number of shards, and returns
                the batches of that shard; see `data.pipeline.training_dataset`. All batches of all
                shards have the same size.
        """
        return make(0, 1)

    def evaluation_data(self, make: MakeShard) -> Any:
        """Returns what `evaluate` takes: every image once.

        Args:
            make: As in `training_data`; see `data.pipeline.evaluation_dataset`. The shards of the
                last batch may differ in size, and some may be empty.
        """
        return make(0, 1)

    def broadcast(self, value: Any) -> Any:
        """Returns the value that the process with rank 0 passed; any picklable object."""
        return value

    def gather(self, value: Any) -> list[Any]:
        """Returns the values that all processes passed, in the order of their ranks."""
        return [value]

    def close(self) -> None:
        """Leaves the group of processes."""


ONE_DEVICE = Engine()
