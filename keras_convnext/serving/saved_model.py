"""A SavedModel for TensorFlow Serving, which needs neither Keras nor this package to run.

A SavedModel is made by TensorFlow. JAX's own way there (jax2tf) pins the graph to the kind of
machine it was traced on and PyTorch has none, so under these backends the classifier is handed, as
a `.keras` file, to a process of its own that runs TensorFlow.
"""

import dataclasses
from importlib.util import find_spec
from pathlib import Path

import keras

from keras_convnext.errors import MissingPackage
from keras_convnext.files import refuse_taken
from keras_convnext.serving.handover import write_under
from keras_convnext.serving.predictor import Predictor

TOP = 5


def write_saved_model(predictor: Predictor, path: str | Path) -> None:
    """Writes a classifier as a SavedModel with two signatures, both for batches of any size.

    `serving_default` takes `images`, `float32` of shape `(batch, height, width, 3)` with values
    from 0 to 255, at the classifier's size, and gives `probabilities`, `(batch, classes)`.
    `serve_files` takes `files`, the bytes of image files, `(batch,)`; it prepares them as the
    predictor's preprocessor does, EXIF orientation included, and gives `probabilities` and the most
    probable `labels` and `scores`, `(batch, 5)`.

    Args:
        predictor: The classifier and its classes.
        path: Directory to write.

    Raises:
        RunError: If the directory holds something already.
        MissingPackage: If TensorFlow is not installed.
    """
    path = Path(path)
    refuse_taken(path, "directory")
    if find_spec("tensorflow") is None:
        raise MissingPackage("TensorFlow, which writes a SavedModel,", "tensorflow")
    write_under("tensorflow", _write, predictor, path)


def _write(predictor: Predictor, path: Path) -> None:
    import tensorflow as tf

    from keras_convnext.data.decoding import decode_rgb
    from keras_convnext.data.preprocessing import evaluation_image

    size, crop_fraction, turns = dataclasses.astuple(predictor.preprocessor)
    names = tf.constant(predictor.class_names)
    top = min(TOP, len(predictor.class_names))

    images_spec = tf.TensorSpec((None, size, size, 3), tf.float32, "images")
    files_spec = tf.TensorSpec((None,), tf.string, "files")

    def prepare(file):
        return evaluation_image(decode_rgb(file, turns), size, crop_fraction)

    @tf.function(input_signature=[images_spec])
    def serve_images(images):
        return {"probabilities": predictor.classifier(images, training=False)}

    @tf.function(input_signature=[files_spec])
    def serve_files(files):
        one_image = tf.TensorSpec((size, size, 3), tf.float32)
        images = tf.map_fn(prepare, files, fn_output_signature=one_image)
        probabilities = predictor.classifier(images, training=False)
        scores, classes = tf.math.top_k(probabilities, top)
        return {
            "probabilities": probabilities,
            "labels": tf.gather(names, classes),
            "scores": scores,
        }

    archive = keras.export.ExportArchive()
    archive.track(predictor.classifier)
    archive.add_endpoint("serving_default", serve_images)
    archive.add_endpoint("serve_files", serve_files)
    archive.write_out(str(path), verbose=False)
