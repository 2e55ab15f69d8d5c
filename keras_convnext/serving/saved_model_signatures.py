"""The signatures of a SavedModel, as TensorFlow graphs, and the files that it consists of."""

import errno
import json
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_convnext.data.pixels import CHANNELS_OF_FILES
from keras_convnext.data.transforms.decode import decode_rgb
from keras_convnext.data.transforms.grey import in_channels
from keras_convnext.serving.guarded_files import prepare_files, without_bad_rows
from keras_convnext.tasks.base import ServingModel

# TensorFlow's directory for additional files of a SavedModel.
METADATA = Path("assets.extra/keras_convnext.json")


def write(model: ServingModel, path: Path) -> None:
    """Writes a SavedModel; see `saved_model.write_saved_model`."""
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

    def prepare(file):
        image = in_channels(decode_rgb(file, preprocessor.apply_orientation), preprocessor.channels)
        return preprocessor.resized(image)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "files")])
    def serve_files(files):
        images, errors = prepare_files(files, prepare, preprocessor.image_shape)
        outputs = model.named_outputs(images)
        if model.add_file_outputs is not None:
            outputs = model.add_file_outputs(outputs, _metadata(model))
        return without_bad_rows(outputs, errors)

    return serve_files
