"""Depthwise convolution: the one signature, and the choice of what runs behind it."""

import functools
import logging
import os

import keras
from keras import ops

logger = logging.getLogger(__name__)

# The shifted sum is unrolled over the kernel's pixels; past 11x11, the largest kernel the paper
# tries (table 10), compiling it costs more than it saves.
LARGEST_UNROLLED_KERNEL = 11


def depthwise_conv2d(inputs, kernel):
    """Convolves every channel with a kernel of its own: stride 1, zero padding, size kept.

    The environment variable `KERAS_CONVNEXT_KERNELS=reference` forces the `keras.ops` version.

    Args:
        inputs: Tensor of shape `(batch, height, width, channels)`.
        kernel: Tensor of shape `(size, size, channels, 1)` with an odd size.

    Returns:
        Tensor of the shape of `inputs`.
    """
    if _implementation(kernel.shape[0]) == "shifted_sum":
        from keras_convnext.kernels import jax_depthwise_conv2d

        inputs, kernel = ops.convert_to_tensor(inputs), ops.convert_to_tensor(kernel)
        return jax_depthwise_conv2d.shifted_sum(inputs, kernel)
    return reference(inputs, kernel)


def reference(inputs, kernel):
    """The convolution as `keras.ops` does it, on any backend; same arguments as above."""
    return ops.depthwise_conv(inputs, kernel, padding="same", data_format="channels_last")


def _implementation(kernel_size: int) -> str:
    forced = os.environ.get("KERAS_CONVNEXT_KERNELS", "auto")
    if forced not in ("auto", "reference"):
        raise ValueError(
            f"The environment variable KERAS_CONVNEXT_KERNELS must be 'auto' or 'reference'. "
            f"Received: {forced!r}."
        )
    if forced == "reference":
        return "reference"
    return _fastest(keras.backend.backend(), kernel_size)


@functools.cache
def _fastest(backend: str, kernel_size: int) -> str:
    choice, reason = "reference", f"keras.ops is the fastest known on {backend}"
    if backend == "jax" and kernel_size <= LARGEST_UNROLLED_KERNEL:
        import jax

        if jax.default_backend() == "cpu":
            choice, reason = "shifted_sum", "XLA's depthwise convolution is slow on CPU"
    logger.info("depthwise_conv2d %dx%d: %s (%s)", kernel_size, kernel_size, choice, reason)
    return choice
