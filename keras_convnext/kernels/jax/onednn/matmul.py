"""Differentiable matrix multiplications by oneDNN, for JAX on CPU.

XLA's own are nearly as fast in float32, but copy transposed operands. In bfloat16 XLA computes in
float32 even on CPUs with bfloat16 matmuls, and takes two to five times as long.
"""

import functools

import jax

from keras_convnext.kernels.jax.common import reduce_leading_axes
from keras_convnext.kernels.jax.onednn import calls


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def matmul(a, b, transpose_a: bool = False, transpose_b: bool = False):
    """Returns the product of two matrices, each transposed before if asked for."""
    return calls.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)


def _matmul_forward(a, b, transpose_a, transpose_b):
    return matmul(a, b, transpose_a, transpose_b), (a, b)


def _matmul_backward(transpose_a, transpose_b, residuals, gradient):
    a, b = residuals
    if transpose_a:
        a_gradient = matmul(b, gradient, transpose_b, True)
    else:
        a_gradient = matmul(gradient, b, False, not transpose_b)
    if transpose_b:
        b_gradient = matmul(gradient, a, True, transpose_a)
    else:
        b_gradient = matmul(a, gradient, not transpose_a, False)
    return a_gradient, b_gradient


@jax.custom_vjp
def dense(rows, kernel, bias):
    """Returns `rows @ kernel + bias`."""
    return calls.matmul(rows, kernel, bias)


def _dense_forward(rows, kernel, bias):
    return dense(rows, kernel, bias), (rows, kernel, bias)


def _dense_backward(residuals, gradient):
    rows, kernel, bias = residuals
    rows_gradient, kernel_gradient = _matmul_backward(False, False, (rows, kernel), gradient)
    return rows_gradient, kernel_gradient, reduce_leading_axes(gradient, bias.dtype)


matmul.defvjp(_matmul_forward, _matmul_backward)
dense.defvjp(_dense_forward, _dense_backward)
