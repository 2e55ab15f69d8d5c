"""Depthwise convolution: the one signature, and the choice of what runs behind it."""

import functools
import logging
from collections.abc import Callable

import keras
from keras import ops

from keras_convnext.kernels.choice import reference_is_forced

logger = logging.getLogger(__name__)

# The shifted sum is unrolled over the kernel's pixels; past 11x11, the largest kernel the paper
# tries (table 10), compiling it costs more than it saves.
LARGEST_UNROLLED_KERNEL = 11


def depthwise_conv2d(inputs, kernel, bias=None):
    """Convolves every channel with a kernel of its own: stride 1, zero padding, size kept.

    Args:
        inputs: Tensor of shape `(batch, height, width, channels)`.
        kernel: Tensor of shape `(size, size, channels, 1)` with an odd size.
        bias: Tensor of shape `(channels,)`, or `None`.

    Returns:
        Tensor of the shape of `inputs`.
    """
    inputs, kernel = ops.convert_to_tensor(inputs), ops.convert_to_tensor(kernel)
    bias = None if bias is None else ops.convert_to_tensor(bias)
    return fastest_depthwise_conv2d(kernel.shape[0])(inputs, kernel, bias)


def fastest_depthwise_conv2d(kernel_size: int) -> Callable:
    """Returns the fastest function with the signature above for this backend and device.

    The environment variable `KERAS_CONVNEXT_KERNELS=reference` forces the `keras.ops` version.

    Args:
        kernel_size: Side of the kernels it will be called with, in pixels.

    Raises:
        ValueError: If KERAS_CONVNEXT_KERNELS has an unknown value.
    """
    if reference_is_forced():
        return reference
    return _fastest(keras.backend.backend(), kernel_size)


def reference(inputs, kernel, bias=None):
    """The convolution as `keras.ops` does it, on any backend."""
    outputs = ops.depthwise_conv(inputs, kernel, padding="same", data_format="channels_last")
    return outputs if bias is None else outputs + bias


@functools.cache
def _fastest(backend: str, kernel_size: int) -> Callable:
    choice, reason = reference, f"the fastest known on {backend}"
    if backend == "torch":
        from keras_convnext.kernels import torch_depthwise_conv2d

        choice, reason = (
            torch_depthwise_conv2d.depthwise_conv2d,
            "it does not reshape around the call",
        )
    elif backend == "jax" and kernel_size <= LARGEST_UNROLLED_KERNEL:
        import jax

        if jax.default_backend() == "cpu":
            from keras_convnext.kernels import jax_depthwise_conv2d

            choice = jax_depthwise_conv2d.depthwise_conv2d
            reason = "XLA's own depthwise convolution is slow on CPU"
    logger.info("depthwise convolution %s: %s (%s)", kernel_size, choice.__module__, reason)
    return choice
