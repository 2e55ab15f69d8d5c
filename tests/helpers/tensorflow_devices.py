"""Trains toy networks on CPU devices of one process, and prints the largest differences from one.

A CPU can only be split before TensorFlow uses it, so this is a process of its own.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from keras_convnext import optimizers
from keras_convnext.layers import StochasticDepth

BATCH, STEPS = 8, 8


def split_cpu(parts):
    (processor,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        processor, [tf.config.LogicalDeviceConfiguration()] * parts
    )


def strategy(devices):
    if devices == 1:
        return tf.distribute.get_strategy()
    # By default a process cannot have strategies of different sizes.
    one_by_one = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(devices)], one_by_one)


def build(kind, policy="float32", **named):
    keras.utils.set_random_seed(0)
    images = keras.Input((8,))
    x = keras.layers.Dense(16, "tanh", name="stem", dtype=policy)(images)
    x = keras.layers.Add()([x, StochasticDepth(0.3)(keras.layers.Dense(16, dtype=policy)(x))])
    model = keras.Model(images, keras.layers.Dense(3, dtype="float32")(x))
    optimizer = getattr(optimizers, kind)(1e-2, layer_decay=0.5, **named)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0**18)
    model.compile(optimizer, "mse")
    return model


def data():
    inputs = np.random.default_rng(0).normal(size=(BATCH * STEPS, 8)).astype("float32")
    return inputs, 3 * inputs[:, :3]


def state(model):
    variables = [*model.trainable_variables, *model.optimizer.variables]
    variables += [x.seed_generator.state for x in model.layers if hasattr(x, "seed_generator")]
    return [np.asarray(keras.ops.convert_to_numpy(v), "float64") for v in variables]


def train(kind, devices, **named):
    with strategy(devices).scope():
        model = build(kind, **named)
    losses = model.fit(*data(), batch_size=BATCH, epochs=2, verbose=0, shuffle=False)
    return [np.asarray(losses.history["loss"]), *state(model)]


def difference(results, expected):
    return max(float(np.max(np.abs(a - b))) for a, b in zip(results, expected, strict=True))


if __name__ == "__main__":
    split_cpu(4)
    for devices, named in json.loads(sys.argv[1]):
        one = train(devices=1, **named)
        print(json.dumps([difference(train(devices=n, **named), one) for n in devices]), flush=True)
