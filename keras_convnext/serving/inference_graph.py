"""What the forms for ONNX Runtime and OpenVINO have in common."""

import keras

from keras_convnext.serving.folding import folded
from keras_convnext.serving.precision import in_float32

INPUT, OUTPUT = "images", "probabilities"


def for_an_engine(classifier: keras.Model) -> keras.Model:
    """Returns the classifier as engines take it: in float32, and folded."""
    return folded(in_float32(classifier))
