"""Writes models for OpenVINO, which needs neither Keras nor this package.

OpenVINO converts TensorFlow graphs. Under other backends a process that runs TensorFlow writes the
files. Where TensorFlow is not installed, PyTorch writes ONNX in memory, which OpenVINO reads.
"""

import dataclasses
import errno
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np

from keras_convnext.errors import MissingPackage
from keras_convnext.files import atomic_writes, check_absent, undo_interrupted
from keras_convnext.runtime import has_tensorflow
from keras_convnext.serving import onnx_model
from keras_convnext.serving.inference_graph import INPUT, inference_graph
from keras_convnext.serving.quantization import check_quantizable, quantize
from keras_convnext.serving.run_with_backend import run_with_backend
from keras_convnext.tasks.base import Servable, ServingModel

PACKAGES = ("openvino",)


def write_openvino(
    predictor: Servable, path: str | Path, calibration: np.ndarray | None = None
) -> None:
    """Writes a model as OpenVINO's `.xml` file, with the weights in a `.bin` file beside it.

    Its input is `images`, `float32` of shape `(batch, height, width, channels)` with values from 0
    to 255, at the model's size. The output of a classifier is `probabilities`, `(batch, classes)`.
    The `keras_convnext` section of its information has, for a classifier, `class_names`,
    `image_size` (one number, or height and width), `crop_fraction`, `channels`,
    `apply_orientation`, `interpolation`, `warp_from` and `multi_label`, as JSON.

    On CPUs that support bfloat16 OpenVINO computes in it by default; compile the model with
    `{"INFERENCE_PRECISION_HINT": "f32"}` for exact results.

    Args:
        predictor: The predictor to export, such as a `keras_convnext.Predictor`.
        path: The `.xml` file to write.
        calibration: For 8-bit integers: prepared images, `(images, height, width, channels)`, which
            determine the ranges. Defaults to `None`, for `float32`.

    Raises:
        RunError: If either file is there already.
        WriteError: If they cannot be written, as on a full disk; neither is left then.
        UserError: If OpenVINO cannot convert the network.
        MissingPackage: If OpenVINO or, for integers, NNCF is not installed, or neither TensorFlow
            nor PyTorch with onnx and onnxscript.
    """
    path = Path(path)
    weights = path.with_suffix(".bin")
    undo_interrupted(path)
    for file in (path, weights):
        check_absent(file)
    if not all(map(find_spec, PACKAGES)):
        raise MissingPackage("OpenVINO", "openvino")
    backend = _graph_backend()
    if calibration is not None:
        check_quantizable()
    with atomic_writes(weights, path) as (_, written):  # an .xml is never without its .bin
        model = predictor.serving_model()
        run_with_backend(backend, _write, model, written, calibration=calibration)


def _graph_backend() -> str:
    """Returns the backend whose graphs OpenVINO reads."""
    if has_tensorflow():
        return "tensorflow"
    if not all(map(find_spec, onnx_model.PACKAGES)):
        raise MissingPackage(
            "TensorFlow, or PyTorch with onnx, whose graphs OpenVINO reads,", "onnx"
        )
    return "torch"


def _write(model: ServingModel, path: Path, calibration: np.ndarray | None = None) -> None:
    import openvino

    network = _converted(model)
    if calibration is not None:
        network = quantize(network, INPUT, calibration, exact=_means(network))
    for name, value in model.metadata.items():
        network.set_rt_info(value, ["keras_convnext", name])
    try:
        openvino.serialize(network, path, path.with_suffix(".bin"))
    except RuntimeError as error:  # it does not name the cause
        raise OSError(
            errno.EIO, f"OpenVINO stopped writing ({error}), as where the disk is full"
        ) from error


def _converted(model: ServingModel):
    """Returns the model as an `openvino.Model`."""
    if keras.backend.backend() == "tensorflow":
        return _from_tensorflow(model)
    import openvino

    return openvino.Core().read_model(onnx_model.exported(model).SerializeToString())


def _from_tensorflow(model: ServingModel):
    import openvino
    import tensorflow as tf

    served = dataclasses.replace(model, network=inference_graph(model.network))
    images_spec = tf.TensorSpec((None, *model.preprocessor.image_shape), tf.float32, INPUT)

    @tf.function(input_signature=[images_spec])
    def serve(images):
        return served.named_outputs(images)

    return openvino.convert_model(serve)


def _means(network) -> list[str]:
    """Returns the matmuls that compute LayerNorm's means, which are too narrow for integers."""
    products = (one for one in network.get_ops() if one.get_type_name() == "MatMul")
    return [one.get_friendly_name() for one in products if one.get_output_partial_shape(0)[-1] == 1]
