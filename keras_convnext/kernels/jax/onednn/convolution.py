"""Convolutions for JAX on CPU by oneDNN, whose depthwise one takes a thirtieth of XLA's time.

The gradients of a depthwise convolution are convolutions too: that of the inputs, with the flipped
kernel; and that of the kernel, of each image with that image's output gradient as a kernel as large
as the image. A convolution of patches is one matmul.
"""

import functools

import jax
import jax.numpy as jnp

from keras_convnext.kernels.jax import convolution as xla
from keras_convnext.kernels.jax.common import accumulation_dtype, reduce_leading_axes
from keras_convnext.kernels.jax.onednn.calls import depthwise_convolution
from keras_convnext.kernels.jax.onednn.matmul import dense
from keras_convnext.kernels.jax.onednn.support import is_supported
from keras_convnext.kernels.patches import as_matrix, extract_patches


def patch_conv2d(inputs, kernel, bias, training: bool = False):
    """Has the contract of `reference.patch_conv2d`."""
    patches, matrix = extract_patches(inputs, kernel.shape[0]), as_matrix(kernel)
    if not is_supported(patches, matrix, bias):
        return xla.patch_conv2d(inputs, kernel, bias, training)
    rows = patches.reshape(-1, patches.shape[-1])
    return dense(rows, matrix, bias).reshape(*patches.shape[:-1], -1)


def depthwise_conv2d(inputs, kernel, bias=None, training: bool = False):
    """Has the contract of `reference.depthwise_conv2d`."""
    if not is_supported(inputs, kernel, *(() if bias is None else (bias,))):
        return xla.depthwise_conv2d(inputs, kernel, bias)
    return _convolve(inputs, kernel, bias)


@jax.custom_vjp
def _convolve(inputs, kernel, bias=None):
    rows, columns = kernel.shape[:2]
    padding = rows // 2, columns // 2
    return depthwise_convolution(inputs, jnp.swapaxes(kernel, 2, 3), bias, padding)


def _forward(inputs, kernel, bias):
    return _convolve(inputs, kernel, bias), (inputs, kernel, bias)


def _backward(residuals, output_gradient):
    inputs, kernel, bias = residuals
    return (
        _convolve(output_gradient, _flip(kernel)),
        _kernel_gradient(inputs, output_gradient, kernel.shape[:2]),
        None if bias is None else reduce_leading_axes(output_gradient, bias.dtype),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _kernel_gradient(inputs, output_gradient, size):
    def add_image(total, image_and_gradient):
        image, gradient = image_and_gradient
        padding = size[0] // 2, size[1] // 2
        taps = depthwise_convolution(image[None], gradient[:, :, None], padding=padding)
        return total + taps[0].astype(total.dtype), None

    zeros = jnp.zeros((*size, inputs.shape[-1]), accumulation_dtype(inputs))
    total, _ = jax.lax.scan(add_image, zeros, (inputs, output_gradient))
    return total.astype(inputs.dtype)[..., None]


def _kernel_gradient_forward(inputs, output_gradient, size):
    return _kernel_gradient(inputs, output_gradient, size), (inputs, output_gradient)


def _kernel_gradient_backward(size, residuals, gradient):
    inputs, output_gradient = residuals
    return _convolve(output_gradient, _flip(gradient)), _convolve(inputs, gradient)


def _flip(kernel):
    return jnp.flip(kernel, axis=(0, 1))


_convolve.defvjp(_forward, _backward)
_kernel_gradient.defvjp(_kernel_gradient_forward, _kernel_gradient_backward)
