"""A block's LayerNorm, dense layers and layer scale for JAX, with gradients that keep less.

JAX would keep GELU's result and its derivative's parts for the gradients, each four times as wide
as the block. Here the hidden units before the bias are kept, and the rest is computed again: cheap
beside the products, and less to write and read. The rows are taken in parts: XLA goes over all
hidden units for each product, and they would not stay in the processor's cache.
"""

import functools

import jax
import jax.numpy as jnp

from keras_convnext.kernels.jax.cast import cast
from keras_convnext.kernels.jax.chunks import count_in_the_cache, in_parts
from keras_convnext.kernels.jax.gelu import gelu, gelu_derivative
from keras_convnext.kernels.jax.layer_norm import (
    layer_norm,
    layer_norm_gradients,
    scale_and_shift,
    statistics_of,
)
from keras_convnext.kernels.jax.scheduling import zero_known_after
from keras_convnext.kernels.jax.sums import exact, sum_of_rows


def norm_mlp(
    inputs,
    gamma,
    beta,
    kernel_1,
    bias_1,
    kernel_2,
    bias_2,
    scale,
    epsilon: float,
    training: bool = False,
):
    """Same arguments and result as `kernels.norm_mlp.reference`."""
    weights = (cast(weight, inputs.dtype) for weight in (kernel_1, bias_1, kernel_2, bias_2))
    return _norm_mlp(inputs, gamma, beta, *weights, scale, epsilon)


def scaled(outputs, scale):
    """Returns the outputs times layer scale, if there is any, in their own type."""
    return outputs if scale is None else (outputs * scale).astype(outputs.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(8,))
def _norm_mlp(inputs, gamma, beta, kernel_1, bias_1, kernel_2, bias_2, scale, epsilon):
    def outputs_of(rows):
        return scaled(gelu(rows @ kernel_1 + bias_1) @ kernel_2 + bias_2, scale)

    normed = layer_norm(inputs, gamma, beta, epsilon)
    return jax.lax.map(outputs_of, _parts(normed, kernel_1)).reshape(inputs.shape)


def _forward(inputs, gamma, beta, kernel_1, bias_1, kernel_2, bias_2, scale, epsilon):
    def product_and_outputs_of(rows):
        product = rows @ kernel_1
        return product, scaled(gelu(product + bias_1) @ kernel_2 + bias_2, scale)

    statistics = statistics_of(inputs, epsilon)
    normed = scale_and_shift(inputs, statistics, gamma, beta)
    products, outputs = jax.lax.map(product_and_outputs_of, _parts(normed, kernel_1))
    weights = gamma, beta, kernel_1, bias_1, kernel_2, bias_2, scale
    return outputs.reshape(inputs.shape), (inputs, statistics, products, weights)


def _backward(epsilon, saved, output_gradient):
    inputs, statistics, products, (gamma, beta, *dense, scale) = saved
    kernel_1, bias_1, kernel_2, bias_2 = dense
    zero = zero_known_after(output_gradient)

    def add_gradients_of_part(totals, part):
        rows, product, output_gradient = part
        hidden = product + (bias_1 + zero)
        activated_gradient = scaled(output_gradient, scale) @ kernel_2.T
        hidden_gradient = activated_gradient * gelu_derivative(hidden)
        gradients = (
            _product_gradient(rows, hidden_gradient),
            sum_of_rows(hidden_gradient, exact(bias_1)),
            # The other way round XLA would transpose the hidden units, one by one.
            _product_gradient(output_gradient, gelu(hidden)).T,
            sum_of_rows(output_gradient, exact(bias_2)),
        )
        totals = [total + gradient for total, gradient in zip(totals, gradients, strict=True)]
        return totals, hidden_gradient @ kernel_1.T

    nothing = [jnp.zeros(weight.shape, exact(weight)) for weight in dense]
    statistics += zero
    normed = scale_and_shift(inputs, statistics, gamma, beta)
    parts = (_parts(normed, kernel_1), products, _parts(output_gradient, kernel_1))
    totals, normed_gradients = jax.lax.scan(add_gradients_of_part, nothing, parts)
    kernel_1_gradient, bias_1_gradient, along_kernel, along_bias = totals
    normed_gradient = normed_gradients.reshape(inputs.shape)
    return (
        *layer_norm_gradients(inputs, statistics, gamma, beta, normed_gradient),
        kernel_1_gradient.astype(kernel_1.dtype),
        bias_1_gradient.astype(bias_1.dtype),
        *second_layers_gradients(along_kernel, along_bias, kernel_2, bias_2, scale),
    )


def second_layers_gradients(along_kernel, along_bias, kernel, bias, scale):
    """Returns the gradients for the second layer's weights and for layer scale.

    Args:
        along_kernel: What the kernel's gradient would be without layer scale.
        along_bias: The same of the bias.
        kernel: The second layer's.
        bias: The second layer's.
        scale: Layer scale; may be `None`.
    """
    scale_gradient = None
    if scale is not None:
        products = along_kernel.astype(exact(scale)) * kernel
        scale_gradient = (products.sum(0) + along_bias * bias).astype(scale.dtype)
        along_kernel, along_bias = along_kernel * scale, along_bias * scale
    return along_kernel.astype(kernel.dtype), along_bias.astype(bias.dtype), scale_gradient


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


_norm_mlp.defvjp(_forward, _backward)
