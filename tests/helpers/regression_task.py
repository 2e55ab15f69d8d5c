"""A task that the package does not have: one number for an image, here the value of a digit."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from keras_convnext.data.pipeline import evaluation_dataset
from keras_convnext.data.preprocessor import Preprocessor
from keras_convnext.data.targets import Targets
from keras_convnext.errors import RecipeError
from keras_convnext.runs.metrics import Monitor
from keras_convnext.tasks.base import ServingModel, Task, as_metadata
from keras_convnext.tasks.model_file import load_model
from keras_convnext.training.model import build_model


class ValueTargets(Targets):
    def encode(self, values, split):
        return tf.cast(values, tf.float32)[:, tf.newaxis]


@dataclasses.dataclass(frozen=True)
class ValuePredictor:
    network: keras.Model
    preprocessor: Preprocessor

    def serving_model(self):
        metadata = as_metadata(unit="digits", **dataclasses.asdict(self.preprocessor))
        return ServingModel(self.network, self.preprocessor, ("value",), metadata)


@dataclasses.dataclass(frozen=True)
class ValueEvaluation:
    truth: np.ndarray
    values: np.ndarray

    def summary(self):
        error = float(np.abs(self.truth - self.values).mean())
        return {"images": len(self.truth), "mean_absolute_error": error}


class Regression(Task):
    targets = ValueTargets()
    monitor = Monitor("mae", "min")

    def check(self, recipe):
        if recipe.augment.mixup_alpha or recipe.augment.cutmix_alpha:
            raise RecipeError("The task regression mixes no images: set mixup_alpha to 0.")

    def build_model(self, recipe, split):
        return build_model(recipe, 1)

    def loss(self, recipe):
        return keras.losses.MeanSquaredError()

    def metrics(self, recipe):
        return [keras.metrics.MeanAbsoluteError(name="mae")]

    def load_predictor(self, run, checkpoint):
        data = run.recipe().data
        preprocessor = Preprocessor(data.image_size, data.crop_fraction)
        return ValuePredictor(load_model(run.model(checkpoint)), preprocessor)

    def evaluate(self, predictor, split):
        size, crop = predictor.preprocessor.image_size, predictor.preprocessor.crop_fraction
        truth, values = [], []
        for images, targets in evaluation_dataset(split, size, crop, targets=self.targets):
            truth.append(targets.numpy()[:, 0])
            values.append(predictor.network.predict_on_batch(images.numpy())[:, 0])
        return ValueEvaluation(np.concatenate(truth), np.concatenate(values))
