"""Depthwise convolution for JAX on CPU, as a sum of shifted products.

XLA's own depthwise convolution is many times slower on CPU, most of all its gradients. The sum
and its gradients below are plain element-wise operations, which XLA fuses into a few loops. All
sums are taken in at least float32: in bfloat16 they would stop growing.
"""

import math

import jax
import jax.numpy as jnp

from keras_convnext.kernels.depthwise_conv2d import reference
from keras_convnext.kernels.jax.chunks import count_in_the_cache, in_parts
from keras_convnext.kernels.jax.scheduling import zero_known_after
from keras_convnext.kernels.jax.sums import exact, sum_of_rows


def depthwise_conv2d(inputs, kernel, bias=None, training: bool = False):
    """Same arguments and result as `kernels.depthwise_conv2d`."""
    if 0 in inputs.shape:  # there is no first image, which the loops below begin with
        return reference(inputs, kernel, bias)
    return _convolve(inputs, kernel, bias)


@jax.custom_vjp
def _convolve(inputs, kernel, bias=None):
    outputs = _shifted_sum(inputs, kernel)
    return outputs if bias is None else outputs + bias


def _shifted_sum(inputs, kernel):
    height, width = inputs.shape[1:3]
    padded = _pad(inputs, kernel.shape)
    kernel = kernel[..., 0].astype(exact(inputs))

    # A loop over the images keeps the sum apart: XLA would otherwise work it out again in every
    # operation that takes it.
    def convolve_image(number, outputs):
        image = jax.lax.dynamic_index_in_dim(padded, number, keepdims=True)
        total = jnp.zeros((1, *inputs.shape[1:]), kernel.dtype)
        for row in range(kernel.shape[0]):
            for column in range(kernel.shape[1]):
                shifted = image[:, row : row + height, column : column + width]
                total += shifted.astype(kernel.dtype) * kernel[row, column]
        return jax.lax.dynamic_update_slice_in_dim(
            outputs, total.astype(inputs.dtype), number, axis=0
        )

    return jax.lax.fori_loop(0, inputs.shape[0], convolve_image, jnp.zeros_like(inputs))


def _forward(inputs, kernel, bias):
    return _convolve(inputs, kernel, bias), (inputs, kernel, bias)


def _backward(saved, output_gradient):
    inputs, kernel, bias = saved
    bias_gradient = None if bias is None else sum_of_rows(output_gradient, bias.dtype)
    flipped = jnp.flip(kernel, axis=(0, 1))
    input_gradient = _shifted_sum(output_gradient, flipped)
    return input_gradient, _kernel_gradient(inputs, kernel, output_gradient), bias_gradient


def _kernel_gradient(inputs, kernel, output_gradient):
    inputs += zero_known_after(output_gradient)
    # Every tap goes over all pixels, so no more images are taken at a time than stay in the cache.
    batch, *size = inputs.shape
    count = count_in_the_cache(batch, math.prod(size) * exact(inputs).itemsize)
    groups = (in_parts(x, count) for x in (inputs, output_gradient))

    def add_gradient_of_group(total, group):
        return total + _exact_kernel_gradient(kernel.shape, *group), None

    nothing = jnp.zeros(kernel.shape, exact(inputs))
    return jax.lax.scan(add_gradient_of_group, nothing, tuple(groups))[0].astype(kernel.dtype)


def _exact_kernel_gradient(kernel_shape, inputs, output_gradient):
    padded = _pad(inputs, kernel_shape)
    output_gradient = output_gradient.astype(exact(inputs))
    rows, columns, channels, _ = kernel_shape

    # A loop rather than an unrolled sum: unrolled, XLA fuses the taps into one slow reduction.
    def gradient_of_tap(tap, gradient):
        row, column = tap // columns, tap % columns
        start = (0, row, column, 0)
        shifted = jax.lax.dynamic_slice(padded, start, inputs.shape)
        tap_gradient = jnp.sum(shifted.astype(exact(inputs)) * output_gradient, axis=(0, 1, 2))
        return jax.lax.dynamic_update_index_in_dim(gradient, tap_gradient, tap, axis=0)

    taps = rows * columns
    gradient = jax.lax.fori_loop(
        0, taps, gradient_of_tap, jnp.zeros((taps, channels), exact(inputs))
    )
    return gradient.reshape(kernel_shape)


def _pad(inputs, kernel_shape):
    rows, columns = kernel_shape[0] // 2, kernel_shape[1] // 2
    return jnp.pad(inputs, ((0, 0), (rows, rows), (columns, columns), (0, 0)))


_convolve.defvjp(_forward, _backward)
