"""LayerNorm for JAX, whose residuals are its inputs and two numbers per pixel."""

import functools

import jax
import jax.numpy as jnp

from keras_convnext.kernels.jax.common import (
    accumulation_dtype,
    channel_mean,
    reduce_leading_axes,
    zero_depending_on,
)


def layer_norm(inputs, gamma, beta, epsilon: float, training: bool = False):
    """Has the contract of `reference.layer_norm`."""
    return _layer_norm(inputs, gamma, beta, epsilon)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _layer_norm(inputs, gamma, beta, epsilon):
    return _forward(inputs, gamma, beta, epsilon)[0]


def _forward(inputs, gamma, beta, epsilon):
    statistics = statistics_of(inputs, epsilon)
    return scale_and_shift(inputs, statistics, gamma, beta), (inputs, statistics, gamma, beta)


def _backward(epsilon, residuals, output_gradient):
    inputs, statistics, gamma, beta = residuals
    statistics += zero_depending_on(output_gradient)
    return layer_norm_gradients(inputs, statistics, gamma, beta, output_gradient)


def statistics_of(inputs, epsilon: float):
    """Returns each pixel's mean over the channels and its inverse standard deviation.

    Returns:
        Tensor of shape `(..., 2)`. As two tensors, XLA on CPU would fuse them with the operations
        on the channels, and materialize `gamma` and `beta` at the size of the inputs.
    """
    x = inputs.astype(accumulation_dtype(inputs))
    mean = jnp.mean(x, axis=-1)
    variance = jnp.mean(jnp.square(x - mean[..., None]), axis=-1)
    return jnp.stack([mean, jax.lax.rsqrt(variance + epsilon)], axis=-1)


def scale_and_shift(inputs, statistics, gamma, beta):
    """Returns the inputs normalized by their statistics, times `gamma` plus `beta`."""
    return (_normalized(inputs, statistics) * gamma + beta).astype(inputs.dtype)


def layer_norm_gradients(inputs, statistics, gamma, beta, output_gradient):
    """Returns the gradients of the inputs, `gamma` and `beta`."""
    gradient = output_gradient.astype(statistics.dtype)
    normalized = _normalized(inputs, statistics)
    grad_times_x = gradient * normalized
    mean, mean_times_x = (channel_mean(x, gamma)[..., None] for x in (gradient, grad_times_x))
    inputs_gradient = statistics[..., 1:] * (gradient * gamma - mean - normalized * mean_times_x)
    return (
        inputs_gradient.astype(inputs.dtype),
        reduce_leading_axes(grad_times_x, gamma.dtype),
        reduce_leading_axes(gradient, beta.dtype),
    )


def _normalized(inputs, statistics):
    return (inputs.astype(statistics.dtype) - statistics[..., :1]) * statistics[..., 1:]


_layer_norm.defvjp(_forward, _backward)
