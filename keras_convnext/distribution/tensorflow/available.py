"""The processes and devices that TensorFlow has."""

import json
import os

import tensorflow as tf


def launched_processes() -> int:
    """Returns the number of processes that this one was started with, as `TF_CONFIG` says."""
    cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
    return len(cluster.get("chief", [])) + len(cluster.get("worker", [])) or 1


def visible_devices() -> int:
    """Returns the number of devices of this process."""
    return len(tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU"))
