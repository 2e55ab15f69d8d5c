"""Builds, calls, trains and saves a model in an environment that has no TensorFlow."""

import importlib.util
import tempfile

import keras
import numpy as np

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
print(f"{keras.backend.backend()}: built, trained and loaded without TensorFlow")  # noqa: T201
