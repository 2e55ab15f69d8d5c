"""Trains a classifier of digits on all devices of this machine, in a script of your own.

    KERAS_BACKEND=tensorflow python examples/multi_gpu.py
    KERAS_BACKEND=jax python examples/multi_gpu.py
    KERAS_BACKEND=torch torchrun --nproc-per-node 2 examples/multi_gpu.py

With PyTorch every device has a process, so pass their number. The updates are the same on any
number of devices, but for rounding. On PyTorch the images come in another order, since each process
shuffles its own.
"""

import contextlib
import os

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_convnext

EPOCHS = int(os.environ.get("EPOCHS", "10"))
BATCH = 64  # images in a step, over all devices


def all_devices():
    """Returns the context to create the model in."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.distribute.MirroredStrategy().scope()
    if keras.backend.backend() == "jax":
        keras.distribution.set_distribution(keras.distribution.DataParallel())
    return contextlib.nullcontext()


def processes():
    """Returns the number of this process and the number of processes, as torchrun says."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def own_share(arrays, rank, count):
    """Returns every `count`-th example, of as many as fill whole batches."""
    size = len(arrays[0]) // BATCH * BATCH
    return [array[:size][rank::count] for array in arrays]


def main():
    """Trains the model and prints its accuracy."""
    rank, count = processes()
    keras.utils.set_random_seed(0)  # the same first weights in every process
    digits = load_digits()
    images = np.repeat(digits.images[..., None] * (255 / 16), 3, axis=-1).repeat(4, 1).repeat(4, 2)
    labels = keras.utils.to_categorical(digits.target)
    images, labels = own_share([images.astype("float32"), labels], rank, count)

    with all_devices():
        model = keras_convnext.ConvNeXt(
            depths=(1, 1, 2, 1),
            dims=(16, 32, 48, 64),
            input_shape=(32, 32, 3),
            classes=10,
            drop_path_rate=0.1,
            layer_scale_init_value=0.1,
        )
        optimizer = keras_convnext.optimizers.AdamW(
            2e-3, global_clipnorm=1.0, gradient_accumulation_steps=2, use_ema=True
        )
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, metrics=["accuracy"])
    if keras.backend.backend() == "torch":
        keras_convnext.data_parallel(model)

    history = model.fit(images, labels, batch_size=BATCH // count, epochs=EPOCHS, verbose=0)
    if rank == 0:
        accuracy = history.history["accuracy"][-1]
        print(f"accuracy {accuracy:.1%} on {count} processes")


if __name__ == "__main__":
    main()
