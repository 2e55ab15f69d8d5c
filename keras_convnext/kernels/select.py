"""Which implementation of an operation runs: the one place where that is decided.

An operation has a reference, made of `keras.ops` or Keras's layers, that is right everywhere. Where
another implementation was measured to be faster, a row of the table says so.
"""

import functools
import importlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import keras

logger = logging.getLogger(__name__)
VARIABLE = "KERAS_CONVNEXT_KERNELS"
Reference = TypeVar("Reference", bound=Callable | None)


@dataclass(frozen=True)
class Kernel:
    """An implementation that is faster than the reference somewhere.

    Attributes:
        operation: What it computes; its module has a function of this name.
        backend: The Keras backend it is for.
        module: Its module in `keras_convnext.kernels`.
        reason: Why it is taken, for the log.
        on_cpu_only: Whether it is taken on processors only.
        needs_onednn: Whether it calls JAX's oneDNN, see `kernels.jax.onednn.support`.
        largest_kernel: Side of the largest convolution kernel it is taken for, in pixels.
    """

    operation: str
    backend: str
    module: str
    reason: str
    on_cpu_only: bool = False
    needs_onednn: bool = False
    largest_kernel: int | None = None


KERNELS = (
    Kernel(
        "adamw",
        "tensorflow",
        "tensorflow.adamw",
        "it goes over the weights once",
        on_cpu_only=True,
    ),
    Kernel("adamw", "torch", "torch.adamw", "it goes over the weights once", on_cpu_only=True),
    Kernel(
        "depthwise_conv2d",
        "tensorflow",
        "tensorflow.depthwise_conv2d",
        "its gradients are convolutions, which are faster on CPU",
        on_cpu_only=True,
    ),
    Kernel(
        "depthwise_conv2d",
        "jax",
        "jax.onednn.depthwise_conv2d",
        "oneDNN's is the fastest on CPU",
        on_cpu_only=True,
        needs_onednn=True,
    ),
    Kernel(
        "depthwise_conv2d",
        "jax",
        "jax.depthwise_conv2d",
        "XLA's own depthwise convolution is slow on CPU",
        on_cpu_only=True,
        # It is unrolled over the kernel's pixels; past 11x11, the largest kernel the paper tries
        # (table 10), compiling it costs more than it saves.
        largest_kernel=11,
    ),
    Kernel(
        "depthwise_conv2d",
        "torch",
        "torch.depthwise_conv2d",
        "it does not reshape around the call",
    ),
    Kernel(
        "norm_mlp",
        "tensorflow",
        "tensorflow.norm_mlp",
        "TensorFlow fuses products of matrices only",
    ),
    Kernel(
        "norm_mlp",
        "jax",
        "jax.onednn.norm_mlp",
        "oneDNN's products are the fastest on CPU",
        on_cpu_only=True,
        needs_onednn=True,
    ),
    Kernel("norm_mlp", "jax", "jax.norm_mlp", "its gradients keep less in memory"),
    Kernel("norm_mlp", "torch", "torch.norm_mlp", "biases are added within the products"),
    Kernel(
        "layer_norm",
        "tensorflow",
        "tensorflow.layer_norm",
        "means over the channels are faster as products on CPU",
        on_cpu_only=True,
    ),
    Kernel("layer_norm", "jax", "jax.layer_norm", "its gradients keep less in memory"),
    Kernel("layer_norm", "torch", "torch.layer_norm", "half precision is not cast there and back"),
    Kernel(
        "patch_conv2d",
        "tensorflow",
        "tensorflow.patch_conv2d",
        "gradients of products are faster on CPU",
        on_cpu_only=True,
    ),
    Kernel(
        "patch_conv2d",
        "jax",
        "jax.onednn.patch_conv2d",
        "oneDNN's products are the fastest on CPU",
        on_cpu_only=True,
        needs_onednn=True,
    ),
    Kernel(
        "patch_conv2d",
        "jax",
        "jax.patch_conv2d",
        "products are faster on CPU",
        on_cpu_only=True,
    ),
    Kernel(
        "patch_conv2d",
        "torch",
        "torch.patch_conv2d",
        "products are faster on CPU, and nothing is copied to reorder it",
        on_cpu_only=True,
    ),
)


def fastest(
    operation: str, reference: Reference, kernel_size: int | None = None
) -> Callable | Reference:
    """Returns the fastest implementation known for this backend and device.

    The environment variable `KERAS_CONVNEXT_KERNELS=reference` forces the reference. What is
    taken is logged once, with the reason.

    Args:
        operation: Name of the operation.
        reference: Its reference, or `None` for one that is no function, as an optimizer's steps.
        kernel_size: Of a convolution, the side of the kernels it will be called with, in pixels.

    Raises:
        ValueError: If KERAS_CONVNEXT_KERNELS has an unknown value.
    """
    setting = os.environ.get(VARIABLE, "auto")
    if setting not in ("auto", "reference"):
        raise ValueError(
            f"The environment variable {VARIABLE} must be 'auto' or 'reference'. "
            f"Received: {setting!r}."
        )
    if setting == "reference":
        return reference
    return _load(operation, keras.backend.backend(), kernel_size) or reference


@functools.cache
def _load(operation: str, backend: str, kernel_size: int | None) -> Callable | None:
    """Returns the function of the first row that suits; `None` if none does."""
    if backend == "jax":
        _give_back_the_compilers_memory()
    for row in KERNELS:
        if row.operation == operation and row.backend == backend and _suits(row, kernel_size):
            logger.info("%s: %s (%s)", operation, row.module, row.reason)
            module = importlib.import_module(f"keras_convnext.kernels.{row.module}")
            return getattr(module, operation)
    logger.info("%s: keras.ops (the fastest known on %s)", operation, backend)
    return None


def _suits(row: Kernel, kernel_size: int | None) -> bool:
    if row.largest_kernel is not None and (kernel_size or 0) > row.largest_kernel:
        return False
    if row.on_cpu_only and not _device_is_cpu(row.backend):
        return False
    return not row.needs_onednn or _jax_has_onednn()


def _give_back_the_compilers_memory() -> None:
    from keras_convnext.kernels.jax.compiler_memory import give_back_after_compiling

    give_back_after_compiling()


def _jax_has_onednn() -> bool:
    from keras_convnext.kernels.jax.onednn.support import has_onednn

    return has_onednn()


def _device_is_cpu(backend: str) -> bool:
    if backend == "jax":
        import jax

        return jax.default_backend() == "cpu"
    if backend == "tensorflow":
        import tensorflow as tf

        return not tf.config.list_logical_devices("GPU")
    import torch

    return not torch.cuda.is_available()
