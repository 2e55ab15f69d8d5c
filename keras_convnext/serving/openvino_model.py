"""A network for OpenVINO, which needs neither Keras nor this package to run.

OpenVINO reads the graphs of TensorFlow; under other backends the classifier is handed to a process
that runs TensorFlow.
"""

import errno
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from keras_convnext.errors import MissingPackage
from keras_convnext.files import refuse_taken, whole_files
from keras_convnext.serving.inference_graph import INPUT, OUTPUT, for_an_engine
from keras_convnext.serving.predictor import Predictor
from keras_convnext.serving.quantization import check_quantizable, quantized
from keras_convnext.serving.run_with_backend import write_under

PACKAGES = ("tensorflow", "openvino")


def write_openvino(
    predictor: Predictor, path: str | Path, calibration: np.ndarray | None = None
) -> None:
    """Writes a classifier as OpenVINO's `.xml` file, with its weights beside it as `.bin`.

    It takes `images`, `float32` of shape `(batch, height, width, channels)` with values from 0 to
    255, at the classifier's size, and gives `probabilities`, `(batch, classes)`. Its
    `keras_convnext` information has `class_names`, `image_size` (one number, or height and width),
    `crop_fraction`, `channels`, `apply_orientation`, `interpolation`, `warp_from` and
    `multi_label`, as JSON.

    On CPUs that compute in bfloat16 OpenVINO does so by itself; compile the network with
    `{"INFERENCE_PRECISION_HINT": "f32"}` for the exact results.

    Args:
        predictor: The classifier and its classes.
        path: The `.xml` file to write.
        calibration: For a network in 8-bit integers: prepared images, `(images, height, width,
            channels)`, that choose their ranges. Defaults to `None`, for one in `float32`.

    Raises:
        RunError: If either file is there already.
        WriteError: If they cannot be written, as on a full disk; neither is left then.
        UserError: If OpenVINO cannot convert the network.
        MissingPackage: If OpenVINO, TensorFlow or, for integers, NNCF is not installed.
    """
    path = Path(path)
    weights = path.with_suffix(".bin")
    for file in (path, weights):
        refuse_taken(file)
    if not all(map(find_spec, PACKAGES)):
        raise MissingPackage("OpenVINO, with TensorFlow whose graphs it reads,", "openvino")
    if calibration is not None:
        check_quantizable()
    with whole_files(weights, path) as (_, written):  # engines open the .xml, which needs the .bin
        write_under("tensorflow", _write, predictor, written, calibration=calibration)


def _write(predictor: Predictor, path: Path, calibration: np.ndarray | None = None) -> None:
    import openvino

    network = _converted(predictor)
    if calibration is not None:
        network = quantized(network, INPUT, calibration, exact=_means(network))
    for name, value in predictor.metadata().items():
        network.set_rt_info(value, ["keras_convnext", name])
    try:
        openvino.serialize(network, path, path.with_suffix(".bin"))
    except RuntimeError as error:  # which does not say what was wrong
        raise OSError(
            errno.EIO, f"OpenVINO stopped writing ({error}), as where the disk is full"
        ) from error


def _converted(predictor: Predictor):
    """Returns the classifier's `openvino.Model`."""
    import openvino
    import tensorflow as tf

    classifier = for_an_engine(predictor.classifier)
    images_spec = tf.TensorSpec((None, *predictor.preprocessor.image_shape), tf.float32, INPUT)

    @tf.function(input_signature=[images_spec])
    def serve(images):
        return {OUTPUT: classifier(images, training=False)}

    return openvino.convert_model(serve)


def _means(network) -> list[str]:
    """The products by which LayerNorm takes its means: too narrow to gain by integers."""
    products = (one for one in network.get_ops() if one.get_type_name() == "MatMul")
    return [one.get_friendly_name() for one in products if one.get_output_partial_shape(0)[-1] == 1]
