"""One process of `distribution.py`: trains in one way, and prints its speed and peak memory.

python benchmarks/distribution_worker.py WAY IMAGES [CORE]
"""

import json
import os
import resource
import statistics
import sys
import time

WAY, BATCH = sys.argv[1], int(sys.argv[2])
SIZE, CLASSES = 96, 10
EPOCHS, STEPS = 3, 4  # of which the first epoch only compiles


def pin() -> None:
    """Keeps a process that is one of two on a core of its own."""
    cores = sorted(os.sched_getaffinity(0))
    if WAY == "processes":
        os.sched_setaffinity(0, {cores[rank() % len(cores)]})
    elif WAY == "alone":
        os.environ["OMP_NUM_THREADS"] = "1"
        os.sched_setaffinity(0, {cores[int(sys.argv[3])]})
        leave_group()
    else:
        os.environ["OMP_NUM_THREADS"] = str(len(cores))
        leave_group()


def rank() -> int:
    task = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {})
    names = ("RANK", "KERAS_DISTRIBUTION_PROCESS_ID")
    return next((int(os.environ[name]) for name in names if name in os.environ), task.get("index"))


def leave_group() -> None:
    for name in ("TF_CONFIG", "RANK", "WORLD_SIZE", "LOCAL_RANK"):
        os.environ.pop(name, None)
    for name in [name for name in os.environ if name.startswith("KERAS_DISTRIBUTION")]:
        del os.environ[name]


def settings():
    from keras_convnext.recipe import Distribution

    if WAY == "processes":
        return Distribution(name="data_parallel")
    if WAY == "devices":
        return Distribution(name="data_parallel", devices=2)
    return Distribution(name="none")


def train() -> list[float]:
    """Returns the seconds of a step in every epoch but the first."""
    import keras
    import numpy as np
    import tensorflow as tf

    import keras_convnext
    from keras_convnext.distribution.start import started

    class Clock(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seconds: list[float] = []

        def on_epoch_begin(self, epoch, logs=None):
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.seconds.append((time.perf_counter() - self.began) / STEPS)

    def make(index, count):
        share = BATCH // count // (2 if WAY == "alone" else 1)
        images = np.random.default_rng(index).uniform(0, 255, (share, SIZE, SIZE, 3))
        labels = np.eye(CLASSES, dtype="float32")[np.arange(share) % CLASSES]
        return tf.data.Dataset.from_tensors((images.astype("float32"), labels)).repeat()

    keras.utils.set_random_seed(0)
    with started(settings()) as engine, engine.scope():
        model = keras_convnext.ConvNeXtTiny(
            input_shape=(SIZE, SIZE, 3), classes=CLASSES, drop_path_rate=0.1
        )
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        model.compile(keras_convnext.optimizers.AdamW(1e-4), loss)
        engine.attach(model)
        clock = Clock()
        data = engine.training_data(make)
        model.fit(data, epochs=EPOCHS, steps_per_epoch=STEPS, verbose=0, callbacks=[clock])
    return clock.seconds[1:]


def main() -> None:
    pin()
    seconds = statistics.median(train())
    images = BATCH / 2 if WAY == "alone" else BATCH
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"images_per_second": images / seconds, "peak_memory_mib": peak}))


if __name__ == "__main__":
    main()
