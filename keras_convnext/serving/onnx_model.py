"""Writes ONNX files for ONNX Runtime and other engines, which need neither Keras nor this package.

PyTorch writes them, since its exporter has single operations for LayerNorm and GELU. Under other
backends a process that runs PyTorch writes the file.
"""

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from keras_convnext.errors import MissingPackage
from keras_convnext.files import atomic_write, check_absent
from keras_convnext.serving.inference_graph import INPUT, inference_graph
from keras_convnext.serving.quantization import check_quantizable, quantize
from keras_convnext.serving.run_with_backend import run_with_backend
from keras_convnext.tasks.base import Servable, ServingModel

PACKAGES = ("torch", "onnx", "onnxscript")


def write_onnx(
    predictor: Servable, path: str | Path, calibration: np.ndarray | None = None
) -> None:
    """Writes a model as one ONNX file, for batches of any size.

    Its input is `images`, `float32` of shape `(batch, height, width, channels)` with values from 0
    to 255, at the model's size. The output of a classifier is `probabilities`, `(batch, classes)`.
    The metadata of a classifier are `class_names`, `image_size` (one number, or height and width),
    `crop_fraction`, `channels`, `apply_orientation`, `interpolation`, `warp_from` and
    `multi_label`, as JSON.

    Args:
        predictor: The predictor to export, such as a `keras_convnext.Predictor`.
        path: File to write.
        calibration: For 8-bit integers: prepared images, `(images, height, width, channels)`, which
            determine the ranges. Defaults to `None`, for `float32`.

    Raises:
        RunError: If the file is there already.
        WriteError: If it cannot be written, as on a full disk; nothing is left then.
        UserError: If PyTorch cannot export the network.
        MissingPackage: If PyTorch, ONNX or, for integers, NNCF is not installed.
    """
    path = Path(path)
    check_absent(path)
    if not all(map(find_spec, PACKAGES)):
        raise MissingPackage("PyTorch with onnx and onnxscript, which write ONNX,", "onnx")
    if calibration is not None:
        check_quantizable()
    with atomic_write(path) as written:
        model = predictor.serving_model()
        run_with_backend("torch", _write, model, written, calibration=calibration)


def _write(model: ServingModel, path: Path, calibration: np.ndarray | None = None) -> None:
    import onnx

    network = exported(model)
    if calibration is not None:
        network = quantize(network, INPUT, calibration)
    onnx.helper.set_model_props(network, model.metadata)
    onnx.save(network, path)


def exported(model: ServingModel):
    """Returns the model's `onnx.ModelProto`."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = inference_graph(model.network)

        def forward(self, images):
            return self.network(images, training=False)

    # For a batch of one, PyTorch would fix the batch size.
    images = torch.zeros(2, *model.preprocessor.image_shape)
    with warnings.catch_warnings(action="ignore"):  # about parts of PyTorch's own
        program: Any = torch.onnx.export(
            Network().eval(),
            (images,),
            input_names=[INPUT],
            output_names=list(model.outputs),
            dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}},
            dynamo=True,
            verbose=False,
        )
    return program.model_proto
