"""A network for prediction in 8-bit integers, by NNCF: post-training quantization.

Ranges of the activations are chosen by images like those to come, the weights' by channel; what the
engine has no integer form of stays as it is.
"""

import contextlib
import logging
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from keras_convnext.errors import MissingPackage


def check_quantizable() -> None:
    """Raises MissingPackage if NNCF is not installed."""
    if find_spec("nncf") is None:
        raise MissingPackage("NNCF, which turns a network to integers,", "int8")


def quantized(network: Any, input_name: str, images: np.ndarray, exact: Sequence[str] = ()) -> Any:
    """Returns a network that computes in 8-bit integers where its engine can.

    Args:
        network: `openvino.Model` or `onnx.ModelProto`, of one input.
        input_name: The name of the input.
        images: Images as the network takes them, one after another along the first axis.
        exact: Names of operations that stay as they are.
    """
    import nncf

    nncf.set_log_level(logging.ERROR)
    dataset = nncf.Dataset(images, lambda image: {input_name: image[np.newaxis]})
    with contextlib.redirect_stdout(sys.stderr):  # where the other progress bars are
        return nncf.quantize(
            network,
            dataset,
            subset_size=len(images),
            # Keeps the residual sums out of integers. With NNCF's ways for convolutional networks
            # probabilities of a digit classifier moved by up to 0.36, with these by up to 0.03.
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=nncf.IgnoredScope(names=list(exact)),
        )
