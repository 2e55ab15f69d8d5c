"""The devices of this process that TensorFlow trains on."""

import contextlib

import tensorflow as tf

from keras_convnext.errors import UserError
from keras_convnext.text import counted


def choose_devices(count: int | None) -> list[str]:
    """Returns the names of the first GPUs, or of the first CPU devices if there is no GPU.

    TensorFlow sees one CPU device whatever the number of cores. If it has not been used yet,
    `count` CPU devices are made; they share the cores. This is for tests.

    Args:
        count: Number of devices, or `None` for all there are.

    Raises:
        UserError: If there are fewer.

    Example:
        >>> choose_devices(2)
        ['GPU:0', 'GPU:1']
    """
    if count is not None and count < 1:
        raise UserError(f"The number of devices must be at least 1. Received: {count}.")
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    if kind == "CPU" and count is not None:
        _split_cpu(count)
    names = [f"{kind}:{i}" for i in range(len(tf.config.list_logical_devices(kind)))]
    if count is None:
        return names
    if count > len(names):
        raise UserError(_too_few(kind, count, len(names)))
    return names[:count]


def _split_cpu(count: int) -> None:
    """Makes CPU devices; after TensorFlow's first use their number cannot change."""
    (processor,) = tf.config.list_physical_devices("CPU")
    made = tf.config.get_logical_device_configuration(processor) or ()
    if len(made) < count:
        parts = [tf.config.LogicalDeviceConfiguration()] * count
        with contextlib.suppress(RuntimeError):  # in use: the caller compares the numbers
            tf.config.set_logical_device_configuration(processor, parts)


def _too_few(kind: str, wanted: int, found: int) -> str:
    if kind == "GPU":
        return (
            f"{wanted} devices are asked for, and TensorFlow sees {found} GPU(s). Ask for {found} "
            f"or fewer, or check CUDA_VISIBLE_DEVICES."
        )
    return (
        f"{wanted} CPU devices are asked for, and TensorFlow already runs with {found}. Their "
        f"number can only be set before it is first used: ask for {found}, or start a new process."
    )


def choose_of_process(count: int | None, processes: int) -> tuple[int, str]:
    """Lets TensorFlow use no more devices of this process than its share, before it is first used.

    Args:
        count: Number of devices over all processes, or `None` for all GPUs.
        processes: Number of processes.

    Returns:
        The number of devices of this process, and their kind, `"GPU"` or `"CPU"`.

    Raises:
        UserError: If this process has fewer.
    """
    gpus = tf.config.list_physical_devices("GPU")
    kind, found = ("GPU", len(gpus)) if gpus else ("CPU", 1)
    if count is None:
        return found, kind
    if count % processes or count // processes > found:
        raise UserError(
            f"{count} devices are asked for. There are {processes} processes, each with the same "
            f"number of devices, and this one has {counted(found, kind)}: ask for a multiple of "
            f"{processes}, up to {found * processes}."
        )
    if gpus:
        tf.config.set_visible_devices(gpus[: count // processes], "GPU")
    return count // processes, kind
