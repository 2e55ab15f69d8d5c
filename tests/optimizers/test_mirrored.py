"""Training on several devices with TensorFlow's MirroredStrategy."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="a strategy of TensorFlow's"
)
# A CPU can only be split before TensorFlow uses it, so this is a process of its own.
TRAIN_ON_ONE_AND_ON_TWO = """
import json, sys
import tensorflow as tf
processor, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import numpy as np
from keras_convnext import optimizers

def train(kind, devices):
    keras.utils.set_random_seed(0)
    strategy = tf.distribute.MirroredStrategy(devices)
    with strategy.scope():
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, "tanh", name="stem")])
        model.add(keras.layers.Dense(3))
        optimizer = getattr(optimizers, kind)(1e-2, layer_decay=0.5, use_ema=True)
        model.compile(optimizer, "mse")
    inputs = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    model.fit(inputs, inputs[:, :3], batch_size=16, epochs=3, verbose=0, shuffle=False)
    variables = [*model.trainable_variables, *optimizer.variables]
    return [keras.ops.convert_to_numpy(variable).tolist() for variable in variables]

for kind in sys.argv[1:]:
    print(json.dumps([train(kind, ["CPU:0"]), train(kind, ["CPU:0", "CPU:1"])]))
"""


def test_two_devices_train_as_one_does():
    kinds = ("AdamW", "LAMB", "SGD")
    command = [sys.executable, "-c", TRAIN_ON_ONE_AND_ON_TWO, *kinds]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    for kind, line in zip(kinds, process.stdout.splitlines()[-len(kinds) :], strict=True):
        for one, two in zip(*json.loads(line), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6, err_msg=kind)
