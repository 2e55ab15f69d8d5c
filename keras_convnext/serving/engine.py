"""What the forms for ONNX Runtime and OpenVINO have in common."""

from pathlib import Path

import keras

from keras_convnext.errors import RunError
from keras_convnext.serving.folding import folded
from keras_convnext.serving.precision import in_float32

INPUT, OUTPUT = "images", "probabilities"


def for_an_engine(classifier: keras.Model) -> keras.Model:
    """Returns the classifier as engines take it: in float32, and folded."""
    return folded(in_float32(classifier))


def refuse_taken(path: Path, kind: str = "file") -> None:
    """Raises a `RunError` if there is something where a file or a directory is to be written."""
    if path.exists():
        raise RunError(f"{path} exists already; remove it, or choose another {kind}.")
