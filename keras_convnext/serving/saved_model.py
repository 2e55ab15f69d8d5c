"""Writes SavedModels for TensorFlow Serving, which needs neither Keras nor this package.

TensorFlow writes a SavedModel. JAX's exporter (jax2tf) pins the graph to the kind of machine that
it was traced on, and PyTorch has none, so under these backends a process that runs TensorFlow
writes it.
"""

from pathlib import Path

from keras_convnext.errors import MissingPackage
from keras_convnext.files import atomic_directory, check_absent
from keras_convnext.runtime import has_tensorflow
from keras_convnext.serving.run_with_backend import run_with_backend
from keras_convnext.tasks.base import Servable


def write_saved_model(predictor: Servable, path: str | Path) -> None:
    """Writes a model as a SavedModel with two signatures, both for batches of any size.

    `serving_default` takes `images`, `float32` of shape `(batch, height, width, channels)` with
    values from 0 to 255, at the model's size. `serve_files` takes `files`, the bytes of image
    files, `(batch,)`, and prepares them as the predictor's preprocessor does, EXIF orientation
    included. It is missing for a network of other channels than 1 and 3, which files cannot have.

    For a classifier both return `probabilities`, `(batch, classes)`, and `serve_files` also the
    most probable `labels` and `scores`, `(batch, 5)`. `serve_files` also returns `errors`,
    `(batch,)`: why a file cannot be decoded, or nothing; the other outputs of its row are zero or
    empty, and other rows are not affected. `assets.extra/keras_convnext.json` has
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
    if not has_tensorflow():
        raise MissingPackage("TensorFlow, which writes a SavedModel,", "tensorflow")
    from keras_convnext.serving.saved_model_signatures import write

    with atomic_directory(path) as written:
        run_with_backend("tensorflow", write, predictor.serving_model(), written)
