"""Products of matrices for JAX on CPU by oneDNN.

XLA's own are nearly as fast in float32, but it copies transposes; in bfloat16 it computes in float32
on processors that have products in bfloat16, and takes two to five times as long.
"""

import functools

import jax

from keras_convnext.kernels.jax_onednn import matmul, takes
from keras_convnext.kernels.product import reference


def product(a, b, transpose_a: bool = False, transpose_b: bool = False):
    """Same arguments and result as `kernels.product.reference`."""
    if not takes(a, b):
        return reference(a, b, transpose_a, transpose_b)
    return _product(a, b, transpose_a, transpose_b)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _product(a, b, transpose_a, transpose_b):
    return matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)


def _forward(a, b, transpose_a, transpose_b):
    return _product(a, b, transpose_a, transpose_b), (a, b)


def _backward(transpose_a, transpose_b, saved, gradient):
    a, b = saved
    if transpose_a:
        a_gradient = _product(b, gradient, transpose_b, True)
    else:
        a_gradient = _product(gradient, b, False, not transpose_b)
    if transpose_b:
        b_gradient = _product(gradient, a, True, transpose_a)
    else:
        b_gradient = _product(a, gradient, not transpose_a, False)
    return a_gradient, b_gradient


_product.defvjp(_forward, _backward)
