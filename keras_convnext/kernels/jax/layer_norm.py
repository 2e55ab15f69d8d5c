"""LayerNorm for JAX, with gradients that keep its inputs and two numbers of each pixel."""

import functools

import jax
import jax.numpy as jnp

from keras_convnext.kernels.jax.scheduling import zero_known_after
from keras_convnext.kernels.jax.sums import exact, mean_of_channels, sum_of_rows


def layer_norm(inputs, gamma, beta, epsilon: float, training: bool = False):
    """Same arguments and result as `kernels.layer_norm.reference`."""
    return _layer_norm(inputs, gamma, beta, epsilon)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _layer_norm(inputs, gamma, beta, epsilon):
    return _forward(inputs, gamma, beta, epsilon)[0]


def _forward(inputs, gamma, beta, epsilon):
    statistics = statistics_of(inputs, epsilon)
    return scale_and_shift(inputs, statistics, gamma, beta), (inputs, statistics, gamma, beta)


def _backward(epsilon, saved, output_gradient):
    inputs, statistics, gamma, beta = saved
    statistics += zero_known_after(output_gradient)
    return layer_norm_gradients(inputs, statistics, gamma, beta, output_gradient)


def statistics_of(inputs, epsilon: float):
    """Returns the mean of each pixel's channels, and one over their standard deviation.

    Returns:
        Tensor of shape `(..., 2)`: both in one, lest XLA for CPU take them into one pass with what
        is done to the channels, for which it writes `gamma` and `beta` out as large as the inputs.
    """
    x = inputs.astype(exact(inputs))
    mean = jnp.mean(x, axis=-1)
    variance = jnp.mean(jnp.square(x - mean[..., None]), axis=-1)
    return jnp.stack([mean, jax.lax.rsqrt(variance + epsilon)], axis=-1)


def scale_and_shift(inputs, statistics, gamma, beta):
    """Returns the inputs, normalised by `statistics_of` them, times `gamma` plus `beta`."""
    return (_normalized(inputs, statistics) * gamma + beta).astype(inputs.dtype)


def layer_norm_gradients(inputs, statistics, gamma, beta, output_gradient):
    """Returns the gradients for the inputs, `gamma` and `beta`."""
    gradient = output_gradient.astype(statistics.dtype)
    normalized = _normalized(inputs, statistics)
    along = gradient * normalized
    mean, mean_along = (mean_of_channels(x, gamma)[..., None] for x in (gradient, along))
    inputs_gradient = statistics[..., 1:] * (gradient * gamma - mean - normalized * mean_along)
    return (
        inputs_gradient.astype(inputs.dtype),
        sum_of_rows(along, gamma.dtype),
        sum_of_rows(gradient, beta.dtype),
    )


def _normalized(inputs, statistics):
    return (inputs.astype(statistics.dtype) - statistics[..., :1]) * statistics[..., 1:]


_layer_norm.defvjp(_forward, _backward)
