"""A block's two dense layers for JAX, with gradients that keep less in memory.

JAX would keep GELU's result and its derivative's parts for the gradients, each four times as wide
as the block. Here the hidden units before the bias are kept, and the rest is computed again: cheap
beside the products, and less to write and read. The rows are taken in parts: XLA goes over all
hidden units for each product, and they would not stay in the processor's cache.
"""

import jax
import jax.numpy as jnp

from keras_convnext.kernels.jax_cast import cast
from keras_convnext.kernels.jax_gelu import gelu, gelu_derivative
from keras_convnext.kernels.jax_parts import count_in_the_cache, in_parts
from keras_convnext.kernels.jax_scheduling import zero_known_after
from keras_convnext.kernels.jax_sums import exact, sum_of_rows


def mlp(inputs, kernel_1, bias_1, kernel_2, bias_2, training: bool = False):
    """Same arguments and result as `kernels.mlp.reference`."""
    weights = (cast(weight, inputs.dtype) for weight in (kernel_1, bias_1, kernel_2, bias_2))
    return _mlp(inputs, *weights)


@jax.custom_vjp
def _mlp(inputs, kernel_1, bias_1, kernel_2, bias_2):
    def outputs_of(rows):
        return gelu(rows @ kernel_1 + bias_1) @ kernel_2 + bias_2

    return jax.lax.map(outputs_of, _parts(inputs, kernel_1)).reshape(inputs.shape)


def _forward(inputs, kernel_1, bias_1, kernel_2, bias_2):
    def product_and_outputs_of(rows):
        product = rows @ kernel_1
        return product, gelu(product + bias_1) @ kernel_2 + bias_2

    products, outputs = jax.lax.map(product_and_outputs_of, _parts(inputs, kernel_1))
    return outputs.reshape(inputs.shape), (inputs, kernel_1, bias_1, products, kernel_2, bias_2)


def _backward(saved, output_gradient):
    inputs, kernel_1, bias_1, products, kernel_2, bias_2 = saved
    zero = zero_known_after(output_gradient)

    def add_gradients_of_part(totals, part):
        inputs, product, output_gradient = part
        hidden = product + (bias_1 + zero)
        hidden_gradient = output_gradient @ kernel_2.T * gelu_derivative(hidden)
        gradients = (
            _product_gradient(inputs + zero, hidden_gradient),
            sum_of_rows(hidden_gradient, exact(bias_1)),
            # The other way round XLA would transpose the hidden units, one by one.
            _product_gradient(output_gradient, gelu(hidden)).T,
            sum_of_rows(output_gradient, exact(bias_2)),
        )
        totals = [total + gradient for total, gradient in zip(totals, gradients, strict=True)]
        return totals, hidden_gradient @ kernel_1.T

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


def _product_gradient(inputs, output_gradient):
    """The gradient of `inputs @ kernel` for the kernel."""
    return jnp.matmul(inputs.T, output_gradient, preferred_element_type=exact(inputs))


_mlp.defvjp(_forward, _backward)
