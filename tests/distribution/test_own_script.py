"""The example of a user's own script, on two devices of each backend."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_convnext
from keras_convnext.errors import UserError

EXAMPLE = Path(__file__).parents[2] / "examples" / "multi_gpu.py"
# TensorFlow has no environment variable that makes two devices of a CPU.
WITH_TWO_CPUS = """
import runpy, sys
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
mirrored = tf.distribute.MirroredStrategy
tf.distribute.MirroredStrategy = lambda: mirrored(["CPU:0", "CPU:1"])
runpy.run_path(sys.argv[1], run_name="__main__")
"""
COMMANDS = {
    "tensorflow": ["-c", WITH_TWO_CPUS],
    "jax": [],
    "torch": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
}


@pytest.mark.slow
def test_the_example_trains_on_two_devices():
    environment = {"EPOCHS": "4", "OMP_NUM_THREADS": "1"}
    environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    process = subprocess.run(
        [sys.executable, *COMMANDS[keras.backend.backend()], EXAMPLE],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr
    (line,) = [line for line in process.stdout.splitlines() if line.startswith("accuracy")]
    assert float(line.split()[1].rstrip("%")) > 80


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="`data_parallel` is for PyTorch")
def test_data_parallel_names_the_way_of_another_backend(classifier):
    name = {"tensorflow": "MirroredStrategy", "jax": "DataParallel"}[keras.backend.backend()]
    with pytest.raises(UserError, match=f"is for PyTorch, and Keras runs on .*{name}"):
        keras_convnext.data_parallel(classifier())
