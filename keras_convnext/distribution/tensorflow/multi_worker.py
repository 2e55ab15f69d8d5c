"""MultiWorkerMirroredStrategy as Keras's `fit` can use it.

Keras 3.9 to 3.15 average each step's logs over the replicas with `strategy.reduce(..., axis=0)`,
which fails for numbers. `tests/distribution/tensorflow` checks that training works.
"""

import threading
from typing import Any

import tensorflow as tf

from keras_convnext.distribution.tensorflow.cluster import Cluster, meet
from keras_convnext.errors import UserError

CONNECT_SECONDS = 60.0  # once all processes have started


def join(cluster: Cluster, timeout: float) -> tf.distribute.Strategy:
    """Returns the strategy of several processes, after all have joined.

    Args:
        cluster: The processes.
        timeout: Seconds within which all must start.

    Raises:
        UserError: If they do not, or TensorFlow was used before.
    """
    meet(cluster, timeout)
    result: list[Any] = []

    def create():
        try:
            result.append(_Strategy())
        except Exception as error:  # to be raised where `join` was called
            result.append(error)

    # TensorFlow would wait for an hour for a process that ended meanwhile.
    thread = threading.Thread(target=create, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    if not result:
        raise UserError(
            f"All processes in TF_CONFIG had started, but TensorFlow could not connect them within "
            f"{CONNECT_SECONDS:.0f} seconds. Has one of them ended? Their own output says why."
        )
    if isinstance(result[0], RuntimeError):
        raise UserError(
            f"TensorFlow could not connect the processes: {result[0]}. Create the engine, or "
            f"start `keras-convnext train`, before TensorFlow is first used."
        ) from result[0]
    if isinstance(result[0], Exception):
        raise result[0]
    return result[0]


class _Strategy(tf.distribute.MultiWorkerMirroredStrategy):
    def reduce(self, reduce_op, value, axis):
        is_number = tf.nest.flatten(value, expand_composites=True)[0].shape.rank == 0
        return super().reduce(reduce_op, value, None if is_number else axis)
