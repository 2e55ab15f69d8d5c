"""Builds, trains, saves and evaluates a model, and predicts files, where there is no TensorFlow."""

import importlib.util
import tempfile
from pathlib import Path

import keras
import numpy as np
from PIL import Image

import keras_convnext

if importlib.util.find_spec("tensorflow") is not None:
    raise SystemExit("TensorFlow is installed, so this checks nothing.")

images = np.random.default_rng(0).uniform(0, 255, (4, 64, 64, 3)).astype("float32")
model = keras_convnext.ConvNeXtTiny(input_shape=(64, 64, 3), classes=3)
probabilities = model.predict(images, verbose=0)
np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
model.compile(keras_convnext.optimizers.AdamW(1e-4), "sparse_categorical_crossentropy")
model.fit(images, np.array([0, 1, 2, 0]), epochs=1, verbose=0)
with tempfile.TemporaryDirectory() as folder:
    model.save(f"{folder}/model.keras")
    loaded = keras.saving.load_model(f"{folder}/model.keras")
    keras_convnext.save_weights(model, f"{folder}/model.safetensors", format="timm")
    keras_convnext.load_weights(loaded, f"{folder}/model.safetensors")
np.testing.assert_allclose(
    loaded.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-5
)
with tempfile.TemporaryDirectory() as folder:
    for number, pixels in enumerate(images):
        file = Path(folder, "images", str(number % 3), f"{number}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype("uint8")).save(file)
    model.save(f"{folder}/model.keras")
    predictor = keras_convnext.Predictor.load(f"{folder}/model.keras")
    (best,) = predictor.predict(file, top=1)
    evaluation = keras_convnext.evaluate(f"{folder}/model.keras", f"{folder}/images")
assert best[0].label in ("0", "1", "2") and len(evaluation.labels) == 4  # noqa: S101
print(f"{keras.backend.backend()}: trained and predicted without it")  # noqa: T201
