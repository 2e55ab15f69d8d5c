"""The processes and devices that TensorFlow has."""

import json
import os

import tensorflow as tf


def launched_processes() -> int:
    """Returns the number of processes that this one was started with, as `TF_CONFIG` says."""
    cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
    return len(cluster.get("chief", [])) + len(cluster.get("worker", [])) or 1


def visible_devices() -> int:
    """Returns the number of devices of this process, without using them.

    TensorFlow can join other processes, or divide a CPU, only before it is first used.
    """
    gpus = len(tf.config.list_physical_devices("GPU"))
    (processor,) = tf.config.list_physical_devices("CPU")
    return gpus or len(tf.config.get_logical_device_configuration(processor) or "1")
