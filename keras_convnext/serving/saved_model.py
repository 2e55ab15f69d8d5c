"""Writes SavedModels for TensorFlow Serving, which needs neither Keras nor this package.

TensorFlow writes a SavedModel. JAX's exporter (jax2tf) pins the graph to the kind of machine that
it was traced on, and PyTorch has none, so under these backends a process that runs TensorFlow
writes it.
"""

import errno
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_convnext.data.pixels import CHANNELS_OF_FILES, in_channels
from keras_convnext.data.transforms.decode import decode_rgb
from keras_convnext.errors import MissingPackage
from keras_convnext.files import atomic_directory, check_absent
from keras_convnext.serving.run_with_backend import run_with_backend
from keras_convnext.tasks.base import Servable, ServingModel

# TensorFlow's directory for additional files of a SavedModel.
METADATA = Path("assets.extra/keras_convnext.json")


def write_saved_model(predictor: Servable, path: str | Path) -> None:
    """Writes a model as a SavedModel with two signatures, both for batches of any size.

    `serving_default` takes `images`, `float32` of shape `(batch, height, width, channels)` with
    values from 0 to 255, at the model's size. `serve_files` takes `files`, the bytes of image
    files, `(batch,)`, and prepares them as the predictor's preprocessor does, EXIF orientation
    included. It is missing for a network of other channels than 1 and 3, which files cannot have.

    For a classifier both return `probabilities`, `(batch, classes)`, and `serve_files` also the
    most probable `labels` and `scores`, `(batch, 5)`. `assets.extra/keras_convnext.json` has
    `class_names`, `image_size` (one number, or height and width), `crop_fraction`, `channels`,
    `apply_orientation`, `interpolation`, `warp_from` and `multi_label`.

    Args:
        predictor: The predictor to export, such as a `keras_convnext.Predictor`.
        path: Directory to write.

    Raises:
        RunError: If the path exists already.
        WriteError: If it cannot be written, as on a full disk; nothing is left then.
        MissingPackage: If TensorFlow is not installed.
    """
    path = Path(path)
    check_absent(path, "directory")
    if find_spec("tensorflow") is None:
        raise MissingPackage("TensorFlow, which writes a SavedModel,", "tensorflow")
    with atomic_directory(path) as written:
        run_with_backend("tensorflow", _write, predictor.serving_model(), written)


def _write(model: ServingModel, path: Path) -> None:
    archive = keras.export.ExportArchive()
    archive.track(model.network)
    archive.add_endpoint("serving_default", _images_endpoint(model))
    if model.preprocessor.channels in CHANNELS_OF_FILES:
        archive.add_endpoint("serve_files", _files_endpoint(model))
    try:
        archive.write_out(str(path), verbose=False)
    except tf.errors.OpError as error:  # `...: path; reason [Op:SaveV2]`
        reason = error.message.rpartition("; ")[2].partition(" [Op:")[0]
        raise OSError(errno.EIO, reason) from error
    (path / METADATA).parent.mkdir()
    text = json.dumps(_metadata(model), ensure_ascii=False)
    (path / METADATA).write_text(text, encoding="utf-8")


def _metadata(model: ServingModel) -> dict[str, Any]:
    return {name: json.loads(value) for name, value in model.metadata.items()}


def _images_endpoint(model: ServingModel):
    spec = tf.TensorSpec((None, *model.preprocessor.image_shape), tf.float32, "images")

    @tf.function(input_signature=[spec])
    def serve_images(images):
        return model.named_outputs(images)

    return serve_images


def _files_endpoint(model: ServingModel):
    preprocessor = model.preprocessor
    one_image = tf.TensorSpec(preprocessor.image_shape, tf.float32)

    def prepare(file):
        image = in_channels(decode_rgb(file, preprocessor.apply_orientation), preprocessor.channels)
        return preprocessor.resized(image)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "files")])
    def serve_files(files):
        images = tf.map_fn(prepare, files, fn_output_signature=one_image)
        outputs = model.named_outputs(images)
        if model.add_file_outputs is None:
            return outputs
        return model.add_file_outputs(outputs, _metadata(model))

    return serve_files
