"""LayerNorm, dense layers and layer scale of a block for JAX on CPU, with oneDNN's matmuls.

oneDNN fuses biases and GELU into the matmuls. The hidden units before GELU are saved for the
backward pass, and the rest is recomputed, as in `jax.norm_mlp`. The rows are not processed in
chunks: XLA's loops would cost more than the cache saves.
"""

import functools
from collections.abc import Callable

import jax

from keras_convnext.kernels.jax import norm_mlp as xla
from keras_convnext.kernels.jax.cast import cast
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
from keras_convnext.kernels.jax.norm_mlp import (
    gelu,
    gelu_derivative,
    scaled,
    second_layer_gradients,
)
from keras_convnext.kernels.jax.onednn import calls
from keras_convnext.kernels.jax.onednn.matmul import dense, matmul
from keras_convnext.kernels.jax.onednn.support import is_supported
from keras_convnext.kernels.reference import BlockParams, save_unscaled


def norm_mlp(inputs, params: BlockParams, epsilon: float, training: bool = False):
    """Has the contract of `reference.norm_mlp`."""
    params = params.map_dense(lambda weight: cast(weight, inputs.dtype))
    operands = params.kernel_1, params.bias_1, params.kernel_2, params.bias_2
    run: Callable = _norm_mlp if is_supported(inputs, *operands) else xla.norm_mlp
    rows = inputs.reshape(-1, inputs.shape[-1])
    return run(rows, params, epsilon).reshape(inputs.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _norm_mlp(rows, params, epsilon):
    normed = layer_norm(rows, params.gamma, params.beta, epsilon)
    activated = calls.matmul(normed, params.kernel_1, params.bias_1, gelu=True)
    return scaled(calls.matmul(activated, params.kernel_2, params.bias_2), params.scale)


def _forward(rows, params, epsilon):
    statistics = statistics_of(rows, epsilon)
    normed = scale_and_shift(rows, statistics, params.gamma, params.beta)
    hidden = dense(normed, params.kernel_1, params.bias_1)
    unscaled = dense(gelu(hidden), params.kernel_2, params.bias_2)
    saves = params.scale is not None and save_unscaled(rows.shape[0], params.kernel_2.shape[0])
    residuals = rows, statistics, hidden, unscaled if saves else None, params
    return scaled(unscaled, params.scale), residuals


def _backward(epsilon, residuals, output_gradient):
    rows, statistics, hidden, unscaled, params = residuals
    zero = zero_depending_on(output_gradient)
    hidden += zero
    scaled_gradient = scaled(output_gradient, params.scale)
    activated_gradient = matmul(scaled_gradient, params.kernel_2, transpose_b=True)
    hidden_gradient = activated_gradient * gelu_derivative(hidden)
    if unscaled is not None:
        kernel_2_gradient = matmul(gelu(hidden), scaled_gradient, transpose_a=True)
        bias_2_gradient = reduce_leading_axes(scaled_gradient, params.bias_2.dtype)
        products = output_gradient.astype(accumulation_dtype(params.scale)) * unscaled
        scale_gradient = reduce_leading_axes(products, params.scale.dtype)
    else:
        kernel_2_gradient, bias_2_gradient, scale_gradient = second_layer_gradients(
            matmul(gelu(hidden), output_gradient, transpose_a=True),
            reduce_leading_axes(output_gradient, accumulation_dtype(params.bias_2)),
            params,
        )
    statistics += zero
    normed = scale_and_shift(rows, statistics, params.gamma, params.beta)
    normed_gradient = matmul(hidden_gradient, params.kernel_1, transpose_b=True)
    rows_gradient, gamma_gradient, beta_gradient = layer_norm_gradients(
        rows, statistics, params.gamma, params.beta, normed_gradient
    )
    return rows_gradient, BlockParams(
        gamma_gradient,
        beta_gradient,
        matmul(normed, hidden_gradient, transpose_a=True),
        reduce_leading_axes(hidden_gradient, params.bias_1.dtype),
        kernel_2_gradient,
        bias_2_gradient,
        scale_gradient,
    )


_norm_mlp.defvjp(_forward, _backward)
