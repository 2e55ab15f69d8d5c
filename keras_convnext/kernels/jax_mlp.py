"""A block's two dense layers for JAX, with gradients that keep less in memory.

JAX would keep GELU's result and its derivative's parts for the gradients, each four times as wide
as the block. Here the hidden units before the bias are kept, and the rest is computed again: cheap
beside the products, and less to write and read. The rows are taken in parts: XLA goes over all
hidden units for each product, and they would not stay in the processor's cache.
"""

import functools

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from keras_convnext.kernels.jax_parts import count_in_the_cache, in_parts
from keras_convnext.kernels.jax_scheduling import zero_known_after
from keras_convnext.kernels.jax_sums import exact, sum_of_rows
from keras_convnext.kernels.product import fastest_product


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def mlp(inputs, kernel_1, bias_1, kernel_2, bias_2, training: bool = False):
    """Same arguments and result as `kernels.mlp.reference`."""

    product = fastest_product()

    def outputs_of(rows):
        return product(_gelu(product(rows, kernel_1) + bias_1), kernel_2) + bias_2

    return jax.lax.map(outputs_of, _parts(inputs, kernel_1)).reshape(inputs.shape)


def _forward(inputs, kernel_1, bias_1, kernel_2, bias_2, training):
    product = fastest_product()

    def hidden_and_outputs_of(rows):
        hidden = product(rows, kernel_1)
        return hidden, product(_gelu(hidden + bias_1), kernel_2) + bias_2

    products, outputs = jax.lax.map(hidden_and_outputs_of, _parts(inputs, kernel_1))
    return outputs.reshape(inputs.shape), (inputs, kernel_1, bias_1, products, kernel_2, bias_2)


def _backward(training, saved, output_gradient):
    inputs, kernel_1, bias_1, products, kernel_2, bias_2 = saved
    zero = zero_known_after(output_gradient)

    product = fastest_product()

    def add_gradients_of_part(totals, part):
        inputs, hidden, output_gradient = part
        hidden = hidden + (bias_1 + zero)
        activated_gradient = product(output_gradient, kernel_2, transpose_b=True)
        hidden_gradient = activated_gradient * _gelu_derivative(hidden)
        gradients = (
            product(inputs + zero, hidden_gradient, transpose_a=True),
            sum_of_rows(hidden_gradient, exact(bias_1)),
            product(_gelu(hidden), output_gradient, transpose_a=True),
            sum_of_rows(output_gradient, exact(bias_2)),
        )
        totals = [total + gradient for total, gradient in zip(totals, gradients, strict=True)]
        return totals, product(hidden_gradient, kernel_1, transpose_b=True)

    weights = (kernel_1, bias_1, kernel_2, bias_2)
    nothing = [jnp.zeros(weight.shape, exact(weight)) for weight in weights]
    parts = (_parts(inputs, kernel_1), products, _parts(output_gradient, kernel_1))
    totals, input_gradients = jax.lax.scan(add_gradients_of_part, nothing, parts)
    gradients = (x.astype(weight.dtype) for x, weight in zip(totals, weights, strict=True))
    return input_gradients.reshape(inputs.shape), *gradients


def _parts(x, kernel):
    """Returns the rows of `x` in parts of equal size, whose hidden units stay in the cache."""
    channels, hidden = kernel.shape
    rows = x.reshape(-1, channels)
    # With fewer rows, what each part reads of the weights would not be little beside its units.
    count = count_in_the_cache(rows.shape[0], hidden * x.dtype.itemsize, at_least=2 * hidden)
    return in_parts(rows, count)


def _gelu(x):
    return x * _cumulative(x)


def _gelu_derivative(x):
    y = x.astype(exact(x))
    return (_cumulative(x) + y * norm.pdf(y)).astype(x.dtype)


def _cumulative(x):
    """The normal distribution's cumulative function."""
    return (0.5 * (1 + jax.lax.erf(x.astype(exact(x)) * 0.5**0.5))).astype(x.dtype)


mlp.defvjp(_forward, _backward)
