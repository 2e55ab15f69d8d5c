"""Products of matrices for JAX on CPU by oneDNN, with gradients that are products as well.

XLA's own are nearly as fast in float32, but it copies transposes. In bfloat16 it computes in
float32 even on processors with products in bfloat16, and takes two to five times as long.
"""

import functools

import jax

from keras_convnext.kernels.jax.onednn.calls import matmul
from keras_convnext.kernels.jax.sums import sum_of_rows


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def product(a, b, transpose_a: bool = False, transpose_b: bool = False):
    """Returns the product of two matrices; with `transpose_a` that of the transpose of `a`."""
    return matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)


def _product_forward(a, b, transpose_a, transpose_b):
    return product(a, b, transpose_a, transpose_b), (a, b)


def _product_backward(transpose_a, transpose_b, saved, gradient):
    a, b = saved
    if transpose_a:
        a_gradient = product(b, gradient, transpose_b, True)
    else:
        a_gradient = product(gradient, b, False, not transpose_b)
    if transpose_b:
        b_gradient = product(gradient, a, True, transpose_a)
    else:
        b_gradient = product(a, gradient, not transpose_a, False)
    return a_gradient, b_gradient


@jax.custom_vjp
def dense(rows, kernel, bias):
    """Returns `rows @ kernel + bias`."""
    return matmul(rows, kernel, bias)


def _dense_forward(rows, kernel, bias):
    return dense(rows, kernel, bias), (rows, kernel, bias)


def _dense_backward(saved, gradient):
    rows, kernel, bias = saved
    return *_product_backward(False, False, (rows, kernel), gradient), sum_of_rows(
        gradient, bias.dtype
    )


product.defvjp(_product_forward, _product_backward)
dense.defvjp(_dense_forward, _dense_backward)
