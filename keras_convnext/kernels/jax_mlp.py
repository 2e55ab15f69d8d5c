"""A block's two dense layers for JAX, with gradients that keep less in memory.

JAX would keep GELU's result and its derivative's parts for the gradients, each four times as wide
as the block. Here the hidden units before the bias are kept, and the rest is computed again: cheap
beside the products, and less to write and read.
"""

import functools

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from keras_convnext.kernels.jax_scheduling import zero_known_after
from keras_convnext.kernels.jax_sums import exact, sum_of_rows


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def mlp(inputs, kernel_1, bias_1, kernel_2, bias_2, training: bool = False):
    """Same arguments and result as `kernels.mlp.reference`."""
    return _forward(inputs, kernel_1, bias_1, kernel_2, bias_2, training)[0]


def _forward(inputs, kernel_1, bias_1, kernel_2, bias_2, training):
    product = inputs @ kernel_1
    outputs = _gelu(product + bias_1) @ kernel_2 + bias_2
    return outputs, (inputs, kernel_1, bias_1, product, kernel_2, bias_2)


def _backward(training, saved, output_gradient):
    inputs, kernel_1, bias_1, product, kernel_2, bias_2 = saved
    zero = zero_known_after(output_gradient)
    inputs, hidden = inputs + zero, product + (bias_1 + zero)
    hidden_gradient = output_gradient @ kernel_2.T * _gelu_derivative(hidden)
    return (
        hidden_gradient @ kernel_1.T,
        _product_gradient(inputs, hidden_gradient),
        sum_of_rows(hidden_gradient, bias_1.dtype),
        # The other way round XLA would transpose the hidden units, one by one.
        _product_gradient(output_gradient, _gelu(hidden)).T,
        sum_of_rows(output_gradient, bias_2.dtype),
    )


def _gelu(x):
    return x * _cumulative(x)


def _gelu_derivative(x):
    y = x.astype(exact(x))
    return (_cumulative(x) + y * norm.pdf(y)).astype(x.dtype)


def _cumulative(x):
    """The normal distribution's cumulative function."""
    return (0.5 * (1 + jax.lax.erf(x.astype(exact(x)) * 0.5**0.5))).astype(x.dtype)


def _product_gradient(inputs, output_gradient):
    """The gradient of `inputs @ kernel` for the kernel."""
    axes = tuple(range(inputs.ndim - 1))
    return jnp.tensordot(inputs, output_gradient, (axes, axes))


mlp.defvjp(_forward, _backward)
