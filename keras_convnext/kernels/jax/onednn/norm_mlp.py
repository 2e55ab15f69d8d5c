"""A block's LayerNorm, dense layers and layer scale for JAX on CPU, with oneDNN's products.

oneDNN adds biases and takes GELU itself. As in `jax.norm_mlp` the hidden units before GELU are kept
for the gradients, and the rest is computed again. The rows are not taken in parts: what XLA's loops
cost is more than what they save here.
"""

import functools
from collections.abc import Callable

import jax

from keras_convnext.kernels.jax import norm_mlp as by_xla
from keras_convnext.kernels.jax.cast import cast
from keras_convnext.kernels.jax.gelu import gelu, gelu_derivative
from keras_convnext.kernels.jax.layer_norm import (
    layer_norm,
    layer_norm_gradients,
    scale_and_shift,
    statistics_of,
)
from keras_convnext.kernels.jax.norm_mlp import scaled, second_layers_gradients
from keras_convnext.kernels.jax.onednn.calls import matmul
from keras_convnext.kernels.jax.onednn.matmul import dense, product
from keras_convnext.kernels.jax.onednn.support import takes
from keras_convnext.kernels.jax.scheduling import zero_known_after
from keras_convnext.kernels.jax.sums import exact, sum_of_rows
from keras_convnext.kernels.norm_mlp import keeps_unscaled


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
    dense = [cast(weight, inputs.dtype) for weight in (kernel_1, bias_1, kernel_2, bias_2)]
    rows = inputs.reshape(-1, inputs.shape[-1])
    run: Callable = _norm_mlp if takes(inputs, *dense) else by_xla.norm_mlp
    return run(rows, gamma, beta, *dense, scale, epsilon).reshape(inputs.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(8,))
def _norm_mlp(rows, gamma, beta, kernel_1, bias_1, kernel_2, bias_2, scale, epsilon):
    normed = layer_norm(rows, gamma, beta, epsilon)
    hidden = matmul(normed, kernel_1, bias_1, gelu=True)
    return scaled(matmul(hidden, kernel_2, bias_2), scale)


def _forward(rows, gamma, beta, kernel_1, bias_1, kernel_2, bias_2, scale, epsilon):
    statistics = statistics_of(rows, epsilon)
    hidden = dense(scale_and_shift(rows, statistics, gamma, beta), kernel_1, bias_1)
    unscaled = dense(gelu(hidden), kernel_2, bias_2)
    keeps = scale is not None and keeps_unscaled(rows.shape[0], kernel_2.shape[0])
    weights = gamma, beta, kernel_1, bias_1, kernel_2, bias_2, scale
    saved = rows, statistics, hidden, unscaled if keeps else None, weights
    return scaled(unscaled, scale), saved


def _backward(epsilon, saved, output_gradient):
    rows, statistics, hidden, unscaled, weights = saved
    gamma, beta, kernel_1, bias_1, kernel_2, bias_2, scale = weights
    zero = zero_known_after(output_gradient)
    hidden += zero
    scaled_gradient = scaled(output_gradient, scale)
    activated_gradient = product(scaled_gradient, kernel_2, transpose_b=True)
    hidden_gradient = activated_gradient * gelu_derivative(hidden)
    if unscaled is not None:
        kernel_2_gradient = product(gelu(hidden), scaled_gradient, transpose_a=True)
        bias_2_gradient = sum_of_rows(scaled_gradient, bias_2.dtype)
        products = output_gradient.astype(exact(scale)) * unscaled
        of_second = kernel_2_gradient, bias_2_gradient, sum_of_rows(products, scale.dtype)
    else:
        along_kernel = product(gelu(hidden), output_gradient, transpose_a=True)
        along_bias = sum_of_rows(output_gradient, exact(bias_2))
        of_second = second_layers_gradients(along_kernel, along_bias, kernel_2, bias_2, scale)
    statistics += zero
    normed = scale_and_shift(rows, statistics, gamma, beta)
    normed_gradient = product(hidden_gradient, kernel_1, transpose_b=True)
    return (
        *layer_norm_gradients(rows, statistics, gamma, beta, normed_gradient),
        product(normed, hidden_gradient, transpose_a=True),
        sum_of_rows(hidden_gradient, bias_1.dtype),
        *of_second,
    )


_norm_mlp.defvjp(_forward, _backward)
