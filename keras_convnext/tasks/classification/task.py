"""Image classification as a task."""

import keras

from keras_convnext.console import console
from keras_convnext.data.class_weights import (
    balanced_weights,
    describe_weights,
    with_image_weights,
)
from keras_convnext.data.image_batches import ImageBatches
from keras_convnext.data.preprocessor import Preprocessor
from keras_convnext.data.sources.load import load_split
from keras_convnext.evaluation.classification import Evaluation, evaluate_classifier
from keras_convnext.evaluation.report import write_report
from keras_convnext.models import with_probabilities
from keras_convnext.runs.metrics import Monitor
from keras_convnext.runtime import has_tensorflow
from keras_convnext.tasks.base import Task
from keras_convnext.tasks.classification.predictor import Predictor
from keras_convnext.tasks.model_file import load_model
from keras_convnext.training.model import build_model


class Classification(Task):
    """One class an image; networks train on logits and one-hot targets."""

    monitor = Monitor("accuracy", "max")

    @property
    def targets(self):
        from keras_convnext.data.targets import CLASS_TARGETS

        return CLASS_TARGETS

    def training_batches(self, split, recipe, plan, initial_epoch, shard_index=0, num_shards=1):
        batches = super().training_batches(
            split, recipe, plan, initial_epoch, shard_index, num_shards
        )
        if recipe.data.class_weights is None:
            return batches
        weights = balanced_weights(split)
        text = describe_weights(weights, split.class_names)
        console.print(f"Class weights: {text}", soft_wrap=True)
        return with_image_weights(batches, weights, recipe.augment.smoothing_in_targets)

    def load_split(self, data, split, on_bad_image, predictor, apply_orientation):
        # The classes are numbered as in training.
        return load_split(data, split, on_bad_image, predictor.class_names, apply_orientation)

    def build_model(self, recipe, split):
        return build_model(recipe, len(split.class_names))

    def loss(self, recipe):
        return keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.augment.smoothing_in_loss
        )

    def metrics(self, recipe):
        return [keras.metrics.CategoricalAccuracy(name="accuracy")]

    def load_predictor(self, run, checkpoint) -> Predictor:
        recipe = run.recipe()
        data, preprocessing = recipe.data, recipe.preprocessing
        model = load_model(run.model(checkpoint))
        preprocessor = Preprocessor(
            data.image_size,
            data.crop_fraction,
            apply_orientation=data.apply_orientation,
            interpolation=preprocessing.interpolation,
            warp_from=preprocessing.warp_from,
        )
        return Predictor(with_probabilities(model), run.class_names(), preprocessor)

    def evaluate(self, predictor, split) -> Evaluation:
        batches = self._evaluation_batches(split, predictor.preprocessor)
        return evaluate_classifier(predictor.classifier, batches, split.class_names)

    def _evaluation_batches(self, split, preprocessor):
        if not has_tensorflow():
            return ImageBatches(split, preprocessor)
        from keras_convnext.data.pipeline import evaluation_dataset

        return evaluation_dataset(
            split,
            preprocessor.image_size,
            preprocessor.crop_fraction,
            channels=preprocessor.channels,
            interpolation=preprocessor.interpolation,
            warp_from=preprocessor.warp_from,
            targets=self.targets,
        )

    def write_report(self, directory, metrics, evaluation, split):
        def image(index):
            return split.pixels(index)

        write_report(directory, metrics, evaluation, None if split is None else image)


CLASSIFICATION = Classification()
