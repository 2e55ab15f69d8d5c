"""Trains a small ConvNeXt of any size with `model.fit`, on any backend.

KERAS_BACKEND=jax python examples/fit.py
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_convnext

EPOCHS = int(os.environ.get("EPOCHS", "30"))
BATCH_SIZE = 64

keras.utils.set_random_seed(0)

# 1,797 scanned digits of 8x8 pixels, resized to 32x32 RGB images with values from 0 to 255.
greys, labels = load_digits(return_X_y=True)
images = np.repeat((greys.reshape(-1, 8, 8, 1) * (255 / 16)).astype("float32"), 3, axis=-1)
images = keras.ops.convert_to_numpy(keras.ops.image.resize(images, (32, 32)))
train_x, test_x, train_y, test_y = train_test_split(
    images, labels, test_size=0.2, random_state=0, stratify=labels
)

model = keras_convnext.ConvNeXt(
    depths=(2, 2, 2),
    dims=(32, 64, 128),
    input_shape=(32, 32, 3),
    classes=10,
    drop_path_rate=0.1,
)
updates = EPOCHS * -(-len(train_x) // BATCH_SIZE)
schedule = keras_convnext.schedules.WarmupCosine(4e-3, updates, warmup_steps=updates // 10)
model.compile(
    keras_convnext.optimizers.AdamW(schedule),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
)
model.fit(
    train_x,
    train_y,
    batch_size=BATCH_SIZE,
    epochs=EPOCHS,
    validation_data=(test_x, test_y),
    verbose=2,
)
model.save("digits.keras")  # loads on any of the three backends
