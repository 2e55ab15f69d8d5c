"""LayerNorm for JAX, with gradients that keep its inputs alone."""

import functools

import jax
import jax.numpy as jnp

from keras_convnext.kernels.jax_scheduling import zero_known_after
from keras_convnext.kernels.jax_sums import exact, sum_of_rows
from keras_convnext.kernels.layer_norm import reference


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def layer_norm(inputs, gamma, beta, epsilon: float, training: bool = False):
    """Same arguments and result as `kernels.layer_norm.reference`."""
    return _forward(inputs, gamma, beta, epsilon, training)[0]


def _forward(inputs, gamma, beta, epsilon, training):
    return reference(inputs, gamma, beta, epsilon), (inputs, gamma, beta)


def _backward(epsilon, training, saved, output_gradient):
    inputs, gamma, beta = saved
    return layer_norm_gradients(inputs, gamma, beta, epsilon, output_gradient)


def layer_norm_gradients(inputs, gamma, beta, epsilon: float, output_gradient):
    """Returns the gradients for the inputs, `gamma` and `beta`."""
    output_gradient = output_gradient.astype(exact(inputs))
    zero = zero_known_after(output_gradient)
    normalized, scale = _normalize(inputs.astype(exact(inputs)) + zero, epsilon)
    gradient = output_gradient * gamma
    mean = jnp.mean(gradient, axis=-1, keepdims=True)
    mean_along = jnp.mean(gradient * normalized, axis=-1, keepdims=True)
    return (
        (scale * (gradient - mean - normalized * mean_along)).astype(inputs.dtype),
        sum_of_rows(output_gradient * normalized, gamma.dtype),
        sum_of_rows(output_gradient, beta.dtype),
    )


def _normalize(x, epsilon):
    """Returns `x` with mean 0 and variance 1, and what it was multiplied by."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + epsilon)
    return centred * scale, scale


layer_norm.defvjp(_forward, _backward)
