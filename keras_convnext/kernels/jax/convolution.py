"""Convolutions for JAX on CPU.

XLA's depthwise convolution is many times slower on CPU, and its gradients even more. Here it is a
sum of shifted products, and so are its gradients: plain elementwise operations, which XLA fuses
into a few loops. Sums are taken in at least float32. A convolution of patches is one matmul.
"""

import math

import jax
import jax.numpy as jnp

from keras_convnext.kernels import reference
from keras_convnext.kernels.jax.chunks import chunk_size, split
from keras_convnext.kernels.jax.common import (
    accumulation_dtype,
    reduce_leading_axes,
    zero_depending_on,
)
from keras_convnext.kernels.patches import patch_matmul


def patch_conv2d(inputs, kernel, bias, training: bool = False):
    """Has the contract of `reference.patch_conv2d`."""
    return patch_matmul(inputs, kernel, bias)


def depthwise_conv2d(inputs, kernel, bias=None, training: bool = False):
    """Has the contract of `reference.depthwise_conv2d`."""
    if 0 in inputs.shape:  # the loops below start with a first image
        return reference.depthwise_conv2d(inputs, kernel, bias)
    return _convolve(inputs, kernel, bias)


@jax.custom_vjp
def _convolve(inputs, kernel, bias=None):
    outputs = _shifted_sum(inputs, kernel)
    return outputs if bias is None else outputs + bias


def _shifted_sum(inputs, kernel):
    height, width = inputs.shape[1:3]
    padded = _pad(inputs, kernel.shape)
    kernel = kernel[..., 0].astype(accumulation_dtype(inputs))

    # The loop over the images isolates the sum. Otherwise XLA would fuse it into every operation
    # that reads it, and compute it once for each.
    def convolve_image(index, outputs):
        image = jax.lax.dynamic_index_in_dim(padded, index, keepdims=True)
        total = jnp.zeros((1, *inputs.shape[1:]), kernel.dtype)
        for row in range(kernel.shape[0]):
            for column in range(kernel.shape[1]):
                shifted = image[:, row : row + height, column : column + width]
                total += shifted.astype(kernel.dtype) * kernel[row, column]
        return jax.lax.dynamic_update_slice_in_dim(
            outputs, total.astype(inputs.dtype), index, axis=0
        )

    return jax.lax.fori_loop(0, inputs.shape[0], convolve_image, jnp.zeros_like(inputs))


def _forward(inputs, kernel, bias):
    return _convolve(inputs, kernel, bias), (inputs, kernel, bias)


def _backward(residuals, output_gradient):
    inputs, kernel, bias = residuals
    bias_gradient = None if bias is None else reduce_leading_axes(output_gradient, bias.dtype)
    inputs_gradient = _shifted_sum(output_gradient, jnp.flip(kernel, axis=(0, 1)))
    return inputs_gradient, _kernel_gradient(inputs, kernel, output_gradient), bias_gradient


def _kernel_gradient(inputs, kernel, output_gradient):
    inputs += zero_depending_on(output_gradient)
    # Every tap reads all pixels, so the images are processed in chunks that fit the cache.
    batch, *image_shape = inputs.shape
    size = chunk_size(batch, math.prod(image_shape) * accumulation_dtype(inputs).itemsize)
    chunks = (split(x, size) for x in (inputs, output_gradient))

    def add_chunk(total, chunk):
        return total + _exact_kernel_gradient(kernel.shape, *chunk), None

    zeros = jnp.zeros(kernel.shape, accumulation_dtype(inputs))
    return jax.lax.scan(add_chunk, zeros, tuple(chunks))[0].astype(kernel.dtype)


def _exact_kernel_gradient(kernel_shape, inputs, output_gradient):
    exact = accumulation_dtype(inputs)
    padded = _pad(inputs, kernel_shape)
    output_gradient = output_gradient.astype(exact)
    rows, columns, channels, _ = kernel_shape

    # A loop, since XLA would fuse an unrolled sum into one slow reduction.
    def add_tap(tap, gradient):
        row, column = tap // columns, tap % columns
        shifted = jax.lax.dynamic_slice(padded, (0, row, column, 0), inputs.shape)
        tap_gradient = jnp.sum(shifted.astype(exact) * output_gradient, axis=(0, 1, 2))
        return jax.lax.dynamic_update_index_in_dim(gradient, tap_gradient, tap, axis=0)

    taps = rows * columns
    gradient = jax.lax.fori_loop(0, taps, add_tap, jnp.zeros((taps, channels), exact))
    return gradient.reshape(kernel_shape)


def _pad(inputs, kernel_shape):
    rows, columns = kernel_shape[0] // 2, kernel_shape[1] // 2
    return jnp.pad(inputs, ((0, 0), (rows, rows), (columns, columns), (0, 0)))


_convolve.defvjp(_forward, _backward)
