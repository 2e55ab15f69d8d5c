"""Exact GELU and its derivative for JAX, with the error function in at least float32."""

import jax
from jax.scipy.stats import norm

from keras_convnext.kernels.jax.sums import exact


def gelu(x):
    """Returns `x` times the normal distribution's cumulative function."""
    return x * _cumulative(x)


def gelu_derivative(x):
    """Returns the derivative of `gelu` at `x`."""
    y = x.astype(exact(x))
    return (_cumulative(x) + y * norm.pdf(y)).astype(x.dtype)


def _cumulative(x):
    return (0.5 * (1 + jax.lax.erf(x.astype(exact(x)) * 0.5**0.5))).astype(x.dtype)
