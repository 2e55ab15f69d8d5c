"""An ONNX file, for ONNX Runtime and other engines; it needs neither Keras nor this package to run.

It is written by PyTorch, whose exporter has single operations for LayerNorm and GELU; under other
backends the classifier is handed to a process that runs PyTorch.
"""

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from keras_convnext.errors import MissingPackage
from keras_convnext.files import refuse_taken, whole_file
from keras_convnext.serving.inference_graph import INPUT, OUTPUT, for_an_engine
from keras_convnext.serving.predictor import Predictor
from keras_convnext.serving.quantization import check_quantizable, quantized
from keras_convnext.serving.run_with_backend import write_under

PACKAGES = ("torch", "onnx", "onnxscript")


def write_onnx(
    predictor: Predictor, path: str | Path, calibration: np.ndarray | None = None
) -> None:
    """Writes a classifier as one ONNX file, for batches of any size.

    It takes `images`, `float32` of shape `(batch, height, width, channels)` with values from 0 to
    255, at the classifier's size, and gives `probabilities`, `(batch, classes)`. The metadata has
    `class_names`, `image_size` (one number, or height and width), `crop_fraction`, `channels`,
    `apply_orientation`, `interpolation`, `warp_from` and `multi_label`, as JSON.

    Args:
        predictor: The classifier and its classes.
        path: File to write.
        calibration: For a network in 8-bit integers: prepared images, `(images, height, width,
            channels)`, that choose their ranges. Defaults to `None`, for one in `float32`.

    Raises:
        RunError: If the file is there already.
        WriteError: If it cannot be written, as on a full disk; nothing is left then.
        UserError: If PyTorch cannot export the network.
        MissingPackage: If PyTorch, ONNX or, for integers, NNCF is not installed.
    """
    path = Path(path)
    refuse_taken(path)
    if not all(map(find_spec, PACKAGES)):
        raise MissingPackage("PyTorch with onnx and onnxscript, which write ONNX,", "onnx")
    if calibration is not None:
        check_quantizable()
    with whole_file(path) as written:
        write_under("torch", _write, predictor, written, calibration=calibration)


def _write(predictor: Predictor, path: Path, calibration: np.ndarray | None = None) -> None:
    import onnx

    network = _exported(predictor)
    if calibration is not None:
        network = quantized(network, INPUT, calibration)
    onnx.helper.set_model_props(network, predictor.metadata())
    onnx.save(network, path)


def _exported(predictor: Predictor):
    """Returns the classifier's `onnx.ModelProto`."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.classifier = for_an_engine(predictor.classifier)

        def forward(self, images):
            return self.classifier(images, training=False)

    # Of one image PyTorch would take 1 to be fixed.
    images = torch.zeros(2, *predictor.preprocessor.image_shape)
    with warnings.catch_warnings(action="ignore"):  # about parts of PyTorch's own
        program: Any = torch.onnx.export(
            Network().eval(),
            (images,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}},
            dynamo=True,
            verbose=False,
        )
    return program.model_proto
