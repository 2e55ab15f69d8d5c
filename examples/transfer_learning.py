"""Fine-tunes a published ConvNeXt on your own classes with `model.fit`, on any backend.

PHOTOS holds one folder of images for each class. First only the classifier is trained, on frozen
features; then all layers, with learning rates that decrease towards the image.

KERAS_BACKEND=jax python examples/transfer_learning.py PHOTOS --weights convnext_tiny.fb_in22k
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
from sklearn.model_selection import train_test_split

import keras_convnext

parser = argparse.ArgumentParser()
parser.add_argument("photos", type=Path)
parser.add_argument("--weights", default="convnext_tiny.fb_in22k")
parser.add_argument("--image-size", type=int, default=224)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--output", type=Path, default=Path("transferred"))
arguments = parser.parse_args()
EPOCHS = int(os.environ.get("EPOCHS", "5"))
size, batch_size = arguments.image_size, arguments.batch_size

keras.utils.set_random_seed(0)
class_names = sorted(folder.name for folder in arguments.photos.iterdir() if folder.is_dir())
files = [file for name in class_names for file in sorted((arguments.photos / name).iterdir())]
labels = np.array([class_names.index(file.parent.name) for file in files])
preprocess = keras_convnext.Preprocessor(size)  # resized and cropped as in the paper's evaluation
images = np.stack([preprocess(file) for file in files])
train_x, test_x, train_y, test_y = train_test_split(
    images, labels, test_size=0.2, random_state=0, stratify=labels
)

# The checkpoint has other classes, so the classifier starts from random weights, which is logged.
model = keras_convnext.model_from_weights(
    arguments.weights,
    classes=len(class_names),
    input_shape=(size, size, 3),
    drop_path_rate=0.1,
)


def train(optimizer, epochs):
    """Trains the layers that are not frozen; returns the accuracy on the held-out images."""
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(train_x, train_y, batch_size, epochs, verbose=2)
    _, accuracy = model.evaluate(test_x, test_y, batch_size, verbose=0)
    return accuracy


for layer in model.layers:
    layer.trainable = layer.name == "head"
print(f"classifier alone: {train(keras.optimizers.Adam(1e-2), EPOCHS):.1%}")

for layer in model.layers:
    layer.trainable = True
updates = EPOCHS * -(-len(train_x) // batch_size)
schedule = keras_convnext.schedules.WarmupCosine(2e-4, updates, warmup_steps=updates // 10)
optimizer = keras_convnext.optimizers.AdamW(schedule, weight_decay=1e-8, layer_decay=0.8)
print(f"everything: {train(optimizer, EPOCHS):.1%}")

model.save(arguments.output.with_suffix(".keras"))
keras_convnext.save_weights(model, arguments.output.with_suffix(".safetensors"), format="timm")
keras_convnext.export(model, arguments.output)  # a SavedModel, for TensorFlow Serving
