"""Selects the implementation of an operation for the backend and the device.

An operation always has a reference, see `kernels.reference`. A row of the table names an
implementation that was measured to be faster than the reference on one backend.
"""

import functools
import importlib
import logging
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass

import keras

from keras_convnext.kernels import reference

logger = logging.getLogger(__name__)
VARIABLE = "KERAS_CONVNEXT_KERNELS"

ANY = "any device"
CPU = "CPU"
ONEDNN = "CPU with JAX's oneDNN calls"  # see `kernels.jax.onednn.support`


@dataclass(frozen=True)
class Kernel:
    """An implementation of an operation.

    Attributes:
        operation: What it computes; its module has a function of this name.
        backend: The Keras backend it is for.
        module: Its module in `keras_convnext.kernels.<backend>`.
        device: Where it is used: `ANY`, `CPU` or `ONEDNN`.
        reason: Why it is used, for the log.
        max_kernel_size: Side of the largest convolution kernel it is used for, in pixels.
    """

    operation: str
    backend: str
    module: str
    device: str
    reason: str
    max_kernel_size: int | None = None

    @property
    def path(self) -> str:
        """Its module's full name below `keras_convnext.kernels`."""
        return f"{self.backend}.{self.module}"


# The first row that fits the operation, the backend, the device and the kernel size wins. If none
# does, the reference is used. JAX's own depthwise convolution is unrolled over the kernel's pixels;
# beyond 11x11, the largest kernel in the paper (table 10), compiling it costs more than it saves.
# fmt: off
KERNELS = (
    Kernel("depthwise_conv2d", "tensorflow", "convolution", CPU, "convolutions as gradients"),
    Kernel("depthwise_conv2d", "jax", "onednn.convolution", ONEDNN, "XLA's is slow"),
    Kernel("depthwise_conv2d", "jax", "convolution", CPU, "XLA's is slow", max_kernel_size=11),
    Kernel("depthwise_conv2d", "torch", "convolution", ANY, "no reshapes around the call"),
    Kernel("norm_mlp", "tensorflow", "norm_mlp", ANY, "fused biases and GELU, smaller residuals"),
    Kernel("norm_mlp", "jax", "onednn.norm_mlp", ONEDNN, "faster matmuls with fused biases"),
    Kernel("norm_mlp", "jax", "norm_mlp", ANY, "smaller residuals"),
    Kernel("norm_mlp", "torch", "norm_mlp", ANY, "fused biases and GELU, smaller residuals"),
    Kernel("layer_norm", "tensorflow", "layer_norm", CPU, "means as matmuls"),
    Kernel("layer_norm", "jax", "layer_norm", ANY, "smaller residuals"),
    Kernel("layer_norm", "torch", "layer_norm", ANY, "no casts of half precision"),
    Kernel("patch_conv2d", "tensorflow", "convolution", CPU, "matmuls as gradients"),
    Kernel("patch_conv2d", "jax", "onednn.convolution", ONEDNN, "one matmul by oneDNN"),
    Kernel("patch_conv2d", "jax", "convolution", CPU, "one matmul"),
    Kernel("patch_conv2d", "torch", "convolution", CPU, "one matmul, no copies"),
    Kernel("adamw", "tensorflow", "adamw", CPU, "one pass over each weight"),
    Kernel("adamw", "torch", "adamw", CPU, "one pass over each weight"),
)
# fmt: on


def select(operation: str, kernel_size: int | None = None) -> Callable:
    """Returns the fastest implementation known for this backend and device.

    It has the signature of the operation's reference. The environment variable
    `KERAS_CONVNEXT_KERNELS=reference` selects the reference itself. Every selection is logged once,
    with its reason. A layer selects in `build`, so that a compiler that traces `call` does not
    trace the selection.

    Args:
        operation: `"depthwise_conv2d"`, `"patch_conv2d"`, `"layer_norm"`, `"norm_mlp"` or
            `"adamw"`.
        kernel_size: Side of a convolution's kernel in pixels, for the operations that have one.

    Raises:
        ValueError: If KERAS_CONVNEXT_KERNELS has an unknown value.
    """
    if reference_is_forced():
        return getattr(reference, operation)
    backend = keras.backend.backend()
    return _load(operation, first_match(operation, backend, _devices(backend), kernel_size))


def reference_is_forced() -> bool:
    """Whether `KERAS_CONVNEXT_KERNELS` asks for the references.

    Raises:
        ValueError: If it has an unknown value.
    """
    setting = os.environ.get(VARIABLE, "auto")
    if setting not in ("auto", "reference"):
        raise ValueError(
            f"The environment variable {VARIABLE} must be 'auto' or 'reference'. "
            f"Received: {setting!r}."
        )
    return setting == "reference"


def first_match(
    operation: str, backend: str, devices: Collection[str], kernel_size: int | None = None
) -> Kernel | None:
    """Returns the first row of the table that fits; `None` if none does.

    Args:
        operation: Name of the operation.
        backend: Name of the Keras backend.
        devices: Those of `ANY`, `CPU` and `ONEDNN` that are true of this machine.
        kernel_size: As in `select`.
    """
    for row in KERNELS:
        is_small = row.max_kernel_size is None or (kernel_size or 0) <= row.max_kernel_size
        is_for_it = (row.operation, row.backend) == (operation, backend)
        if is_for_it and row.device in devices and is_small:
            return row
    return None


@functools.cache
def _load(operation: str, row: Kernel | None) -> Callable:
    if row is None:
        logger.info("%s: keras.ops (the fastest known here)", operation)
        return getattr(reference, operation)
    logger.info("%s: %s (%s)", operation, row.path, row.reason)
    module = importlib.import_module(f"keras_convnext.kernels.{row.path}")
    kernel = getattr(module, operation)
    if row.backend != "jax":
        return kernel
    from keras_convnext.kernels.jax.batch_sharding import split_over_batch

    # Of the weights only the dense layers' are large enough to be sharded themselves.
    return split_over_batch(kernel, reference.norm_mlp if operation == "norm_mlp" else None)


@functools.cache
def _devices(backend: str) -> frozenset[str]:
    """Returns the devices of the table that are true of this machine."""
    devices = {ANY}
    if _device_is_cpu(backend):
        devices.add(CPU)
    if backend == "jax":
        from keras_convnext.kernels.jax.onednn.support import has_onednn

        if has_onednn():
            devices.add(ONEDNN)
    return frozenset(devices)


def _device_is_cpu(backend: str) -> bool:
    if backend == "jax":
        import jax

        return jax.default_backend() == "cpu"
    if backend == "tensorflow":
        import tensorflow as tf

        return not tf.config.list_logical_devices("GPU")
    import torch

    return not torch.cuda.is_available()
