"""Random draws inside a train step that are the same for any number of replicas.

A layer that drops samples draws for the whole batch of a step, and each replica takes the draws of
its own images. A step then has the same result on one device and on several.
"""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_convnext.distribution.shards import position_in_step


class Place(NamedTuple):
    """Where the images of the current call are among those of the step.

    Attributes:
        process: Number of the process, from 0. `None` if the call has the images of all processes,
            those of one process after those of another.
        processes: Number of processes.
        replica: Number of the replica within its process, from 0. May be a scalar tensor.
        replicas: Number of replicas in each process.
    """

    process: Any
    processes: int
    replica: Any
    replicas: int


def draw_own(batch_size, draw: Callable[[Any], Any]) -> Any:
    """Draws for all images of a step, and returns the draws of the current call's images.

    Args:
        batch_size: Images in the current call, an integer or a scalar tensor. All replicas have as
            many.
        draw: Function that takes a number of images and returns a tensor with a row for each.
    """
    place = _current_place()
    if place is None:
        return draw(batch_size)
    return ops.take(draw(_step_size(batch_size, place)), _positions(batch_size, place), axis=0)


def _step_size(batch_size, place: Place):
    if place.process is None:
        return batch_size
    return batch_size * place.replicas * place.processes


def _positions(batch_size, place: Place):
    """Returns where the images of the current call are in the step."""
    share = _step_size(batch_size, place) // place.processes
    numbers = ops.arange(batch_size)
    if place.process is None:
        return position_in_step(numbers % share, share, numbers // share, place.processes)
    numbers += place.replica * batch_size
    return position_in_step(numbers, share, place.process, place.processes)


def _current_place() -> Place | None:
    """Returns the place of the current call; `None` if it has all images of the step."""
    backend = keras.backend.backend()
    module = importlib.import_module(f"keras_convnext.distribution.{backend}.place")
    return module.current_place()
