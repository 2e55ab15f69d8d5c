"""A SavedModel for TensorFlow Serving, which needs neither Keras nor this package to run.

A SavedModel is made by TensorFlow. JAX's own way there (jax2tf) pins the graph to the kind of
machine it was traced on and PyTorch has none, so under these backends the classifier is handed, as
a `.keras` file, to a process of its own that runs TensorFlow.
"""

import errno
import json
from importlib.util import find_spec
from pathlib import Path

import keras
import tensorflow as tf

from keras_convnext.data.pixels import CHANNELS_OF_FILES, in_channels
from keras_convnext.data.transforms.decode import decode_rgb
from keras_convnext.errors import MissingPackage
from keras_convnext.files import refuse_taken, whole_directory
from keras_convnext.serving.predictor import Predictor
from keras_convnext.serving.run_with_backend import write_under

TOP = 5
# TensorFlow's place for what is to be kept with a SavedModel and does not concern it.
METADATA = Path("assets.extra/keras_convnext.json")


def write_saved_model(predictor: Predictor, path: str | Path) -> None:
    """Writes a classifier as a SavedModel with two signatures, both for batches of any size.

    `serving_default` takes `images`, `float32` of shape `(batch, height, width, channels)` with
    values from 0 to 255, at the classifier's size, and gives `probabilities`, `(batch, classes)`.
    `serve_files` takes `files`, the bytes of image files, `(batch,)`; it prepares them as the
    predictor's preprocessor does, EXIF orientation included, and gives `probabilities` and the most
    probable `labels` and `scores`, `(batch, 5)`. A network of other channels than 1 and 3, which
    files cannot have, goes without `serve_files`.

    `assets.extra/keras_convnext.json` has `class_names`, `image_size` (one number, or height and
    width), `crop_fraction`, `channels`, `apply_orientation`, `interpolation`, `warp_from` and
    `multi_label`.

    Args:
        predictor: The classifier and its classes.
        path: Directory to write.

    Raises:
        RunError: If there is something there already.
        WriteError: If it cannot be written, as on a full disk; nothing is left then.
        MissingPackage: If TensorFlow is not installed.
    """
    path = Path(path)
    refuse_taken(path, "directory")
    if find_spec("tensorflow") is None:
        raise MissingPackage("TensorFlow, which writes a SavedModel,", "tensorflow")
    with whole_directory(path) as written:
        write_under("tensorflow", _write, predictor, written)


def _write(predictor: Predictor, path: Path) -> None:
    archive = keras.export.ExportArchive()
    archive.track(predictor.classifier)
    archive.add_endpoint("serving_default", _images_endpoint(predictor))
    if predictor.preprocessor.channels in CHANNELS_OF_FILES:
        archive.add_endpoint("serve_files", _files_endpoint(predictor))
    try:
        archive.write_out(str(path), verbose=False)
    except tf.errors.OpError as error:  # `...: path; what was wrong [Op:SaveV2]`
        reason = error.message.rpartition("; ")[2].partition(" [Op:")[0]
        raise OSError(errno.EIO, reason) from error
    metadata = {name: json.loads(value) for name, value in predictor.metadata().items()}
    (path / METADATA).parent.mkdir()
    (path / METADATA).write_text(json.dumps(metadata, ensure_ascii=False), encoding="utf-8")


def _images_endpoint(predictor: Predictor):
    spec = tf.TensorSpec((None, *predictor.preprocessor.image_shape), tf.float32, "images")

    @tf.function(input_signature=[spec])
    def serve_images(images):
        return {"probabilities": predictor.classifier(images, training=False)}

    return serve_images


def _files_endpoint(predictor: Predictor):
    preprocessor = predictor.preprocessor
    names = tf.constant(predictor.class_names)
    top = min(TOP, len(predictor.class_names))
    one_image = tf.TensorSpec(preprocessor.image_shape, tf.float32)

    def prepare(file):
        image = in_channels(decode_rgb(file, preprocessor.apply_orientation), preprocessor.channels)
        return preprocessor.resized(image)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "files")])
    def serve_files(files):
        images = tf.map_fn(prepare, files, fn_output_signature=one_image)
        probabilities = predictor.classifier(images, training=False)
        scores, classes = tf.math.top_k(probabilities, top)
        return {
            "probabilities": probabilities,
            "labels": tf.gather(names, classes),
            "scores": scores,
        }

    return serve_files
