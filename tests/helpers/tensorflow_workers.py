"""One of the processes of a test; prints the engine's results as JSON."""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from tensorflow_devices import BATCH, build, data, state

from keras_convnext.distribution.engine import Engine
from keras_convnext.distribution.shards import position_in_step
from keras_convnext.distribution.tensorflow.engine import make_engine


def batches(index, count):
    inputs, targets = data()
    share = BATCH // count
    own = [position_in_step(i, share, index, count) for i in range(share)]
    steps = [step * BATCH + i for step in range(len(inputs) // BATCH) for i in own]
    return tf.data.Dataset.from_tensor_slices((inputs[steps], targets[steps])).batch(share, True)


def images(index, count):
    inputs = np.random.default_rng(1).normal(size=(103, 8)).astype("float32")
    share = 64 // count
    numbers = np.arange(103)
    own = numbers % 64 // share == index
    return tf.data.Dataset.from_tensor_slices((inputs[own], inputs[own, :3])).batch(share)


def train(engine, **named):
    with engine.scope():
        model = build(**named)
    engine.attach(model)
    history = model.fit(
        engine.training_data(batches),
        epochs=2,
        verbose=0,
        shuffle=False,
        validation_data=engine.evaluation_data(images),
    )
    logs = [np.asarray(history.history[name]) for name in sorted(history.history)]
    return model, [x.tolist() for x in logs], [x.tolist() for x in state(model)]


if __name__ == "__main__":
    case = json.loads(sys.argv[1])
    engine = make_engine() if "TF_CONFIG" in os.environ else Engine()
    value = {"rank": engine.rank, "text": "x" * (1000 * engine.rank)}
    assert [x["rank"] for x in engine.gather(value)] == list(range(engine.processes))
    assert engine.broadcast(value)["rank"] == 0
    model, logs, variables = train(engine, **case)
    if engine.is_main and len(sys.argv) > 2:
        model.save(sys.argv[2])
    engine.gather(None)
    print(json.dumps([engine.describe(), logs, variables]), flush=True)
