"""Depthwise convolution for JAX on CPU, as a sum of shifted products.

XLA's own depthwise convolution is many times slower on CPU, most of all its gradients. The sum
and its gradients below are plain element-wise operations, which XLA fuses into a few loops.
"""

import jax
import jax.numpy as jnp


def depthwise_conv2d(inputs, kernel, bias=None):
    """Same arguments and result as `kernels.depthwise_conv2d`."""
    outputs = shifted_sum(inputs, kernel)
    return outputs if bias is None else outputs + bias


@jax.custom_vjp
def shifted_sum(inputs, kernel):
    """Returns the convolution without bias, added up in at least float32."""
    height, width = inputs.shape[1:3]
    padded = _pad(inputs, kernel)
    exact = jnp.promote_types(inputs.dtype, jnp.float32)
    total = jnp.zeros(inputs.shape, exact)
    for row in range(kernel.shape[0]):
        for column in range(kernel.shape[1]):
            shifted = padded[:, row : row + height, column : column + width, :]
            total += shifted.astype(exact) * kernel[row, column, :, 0].astype(exact)
    return total.astype(inputs.dtype)


def _pad(inputs, kernel):
    rows, columns = kernel.shape[0] // 2, kernel.shape[1] // 2
    return jnp.pad(inputs, ((0, 0), (rows, rows), (columns, columns), (0, 0)))


def _forward(inputs, kernel):
    return shifted_sum(inputs, kernel), (inputs, kernel)


def _backward(saved, output_gradient):
    inputs, kernel = saved
    flipped = jnp.flip(kernel, axis=(0, 1))
    return shifted_sum(output_gradient, flipped), _kernel_gradient(inputs, kernel, output_gradient)


def _kernel_gradient(inputs, kernel, output_gradient):
    exact = jnp.promote_types(inputs.dtype, jnp.float32)
    padded = _pad(inputs, kernel)
    output_gradient = output_gradient.astype(exact)
    columns = kernel.shape[1]

    # A loop rather than an unrolled sum: unrolled, XLA fuses the taps into one slow reduction.
    def gradient_of_tap(tap, gradient):
        row, column = tap // columns, tap % columns
        start = (0, row, column, 0)
        shifted = jax.lax.dynamic_slice(padded, start, inputs.shape).astype(exact)
        tap_gradient = jnp.sum(shifted * output_gradient, axis=(0, 1, 2))
        return jax.lax.dynamic_update_index_in_dim(gradient, tap_gradient, tap, axis=0)

    taps = kernel.shape[0] * columns
    gradient = jax.lax.fori_loop(
        0, taps, gradient_of_tap, jnp.zeros((taps, kernel.shape[2]), exact)
    )
    return gradient.reshape(kernel.shape).astype(kernel.dtype)


shifted_sum.defvjp(_forward, _backward)
