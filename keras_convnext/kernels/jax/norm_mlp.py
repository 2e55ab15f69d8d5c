"""LayerNorm, dense layers and layer scale of a block for JAX, with small residuals.

JAX would save GELU's result and the terms of its derivative, each four times as wide as the block.
Here only the hidden units before the bias are saved. The rest is recomputed, which is cheap beside
the matmuls and reads and writes less memory. The rows are processed in chunks: for each matmul XLA
goes over all hidden units, which do not fit the cache of a CPU.
"""

import functools

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from keras_convnext.kernels.jax.cast import cast
from keras_convnext.kernels.jax.chunks import chunk_size, split
from keras_convnext.kernels.jax.common import (
    accumulation_dtype,
    reduce_leading_axes,
    zero_depending_on,
)
from keras_convnext.kernels.jax.layer_norm import (
    layer_norm,
    layer_norm_gradients,
    scale_and_shift,
    statistics_of,
)
from keras_convnext.kernels.reference import BlockParams


def norm_mlp(inputs, params: BlockParams, epsilon: float, training: bool = False):
    """Has the contract of `reference.norm_mlp`."""
    return _norm_mlp(inputs, params.map_dense(lambda x: cast(x, inputs.dtype)), epsilon)


def scaled(outputs, scale):
    """Returns the outputs times layer scale, if there is one, in their own dtype."""
    return outputs if scale is None else (outputs * scale).astype(outputs.dtype)


def gelu(x):
    """Returns exact GELU, with the error function in at least float32."""
    return x * _cumulative(x)


def gelu_derivative(x):
    """Returns the derivative of `gelu` at `x`."""
    y = x.astype(accumulation_dtype(x))
    return (_cumulative(x) + y * norm.pdf(y)).astype(x.dtype)


def _cumulative(x):
    exact = accumulation_dtype(x)
    return (0.5 * (1 + jax.lax.erf(x.astype(exact) * 0.5**0.5))).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _norm_mlp(inputs, params, epsilon):
    def outputs_of(rows):
        activated = gelu(rows @ params.kernel_1 + params.bias_1)
        return scaled(activated @ params.kernel_2 + params.bias_2, params.scale)

    normed = layer_norm(inputs, params.gamma, params.beta, epsilon)
    return jax.lax.map(outputs_of, _chunks(normed, params.kernel_1)).reshape(inputs.shape)


def _forward(inputs, params, epsilon):
    def unbiased_and_outputs_of(rows):
        unbiased = rows @ params.kernel_1
        activated = gelu(unbiased + params.bias_1)
        return unbiased, scaled(activated @ params.kernel_2 + params.bias_2, params.scale)

    statistics = statistics_of(inputs, epsilon)
    normed = scale_and_shift(inputs, statistics, params.gamma, params.beta)
    unbiased, outputs = jax.lax.map(unbiased_and_outputs_of, _chunks(normed, params.kernel_1))
    return outputs.reshape(inputs.shape), (inputs, statistics, unbiased, params)


def _backward(epsilon, residuals, output_gradient):
    inputs, statistics, unbiased, params = residuals
    zero = zero_depending_on(output_gradient)

    def add_chunk(totals, chunk):
        rows, unbiased, output_gradient = chunk
        hidden = unbiased + (params.bias_1 + zero)
        activated_gradient = scaled(output_gradient, params.scale) @ params.kernel_2.T
        hidden_gradient = activated_gradient * gelu_derivative(hidden)
        gradients = (
            _kernel_gradient(rows, hidden_gradient),
            reduce_leading_axes(hidden_gradient, accumulation_dtype(params.bias_1)),
            # With the operands swapped, XLA would transpose the hidden units value by value.
            _kernel_gradient(output_gradient, gelu(hidden)).T,
            reduce_leading_axes(output_gradient, accumulation_dtype(params.bias_2)),
        )
        totals = [total + gradient for total, gradient in zip(totals, gradients, strict=True)]
        return totals, hidden_gradient @ params.kernel_1.T

    dense = params.kernel_1, params.bias_1, params.kernel_2, params.bias_2
    zeros = [jnp.zeros(weight.shape, accumulation_dtype(weight)) for weight in dense]
    statistics += zero
    normed = scale_and_shift(inputs, statistics, params.gamma, params.beta)
    chunks = _chunks(normed, params.kernel_1), unbiased, _chunks(output_gradient, params.kernel_1)
    totals, normed_gradients = jax.lax.scan(add_chunk, zeros, chunks)
    kernel_1_gradient, bias_1_gradient, unscaled_kernel_2, unscaled_bias_2 = totals
    inputs_gradient, gamma_gradient, beta_gradient = layer_norm_gradients(
        inputs, statistics, params.gamma, params.beta, normed_gradients.reshape(inputs.shape)
    )
    kernel_2_gradient, bias_2_gradient, scale_gradient = second_layer_gradients(
        unscaled_kernel_2, unscaled_bias_2, params
    )
    return inputs_gradient, BlockParams(
        gamma_gradient,
        beta_gradient,
        kernel_1_gradient.astype(params.kernel_1.dtype),
        bias_1_gradient.astype(params.bias_1.dtype),
        kernel_2_gradient,
        bias_2_gradient,
        scale_gradient,
    )


def second_layer_gradients(kernel_gradient, bias_gradient, params: BlockParams):
    """Returns the gradients of the second layer's kernel and bias, and of layer scale.

    Args:
        kernel_gradient: What the gradient of the kernel would be without layer scale.
        bias_gradient: The same of the bias.
        params: The weights.
    """
    kernel, bias, scale = params.kernel_2, params.bias_2, params.scale
    scale_gradient = None
    if scale is not None:
        products = kernel_gradient.astype(accumulation_dtype(scale)) * kernel
        scale_gradient = (products.sum(0) + bias_gradient * bias).astype(scale.dtype)
        kernel_gradient, bias_gradient = kernel_gradient * scale, bias_gradient * scale
    return kernel_gradient.astype(kernel.dtype), bias_gradient.astype(bias.dtype), scale_gradient


def _chunks(x, kernel):
    """Returns the rows of `x` in equal chunks whose hidden units fit the cache."""
    channels, hidden = kernel.shape
    rows = x.reshape(-1, channels)
    # In smaller chunks, reading the weights would cost more than the cache saves.
    size = chunk_size(rows.shape[0], hidden * x.dtype.itemsize, minimum=2 * hidden)
    return split(rows, size)


def _kernel_gradient(inputs, output_gradient):
    """Returns the gradient of the kernel in `inputs @ kernel`."""
    return jnp.matmul(inputs.T, output_gradient, preferred_element_type=accumulation_dtype(inputs))


_norm_mlp.defvjp(_forward, _backward)
