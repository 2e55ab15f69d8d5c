"""Sums for JAX in at least float32: in bfloat16 they would stop growing."""

import jax.numpy as jnp


def exact(x):
    """Returns the type to add up values of `x` in."""
    return jnp.promote_types(x.dtype, jnp.float32)


def sum_of_rows(x, dtype):
    """Returns the sum over all axes but the last, such as a bias's gradient, as `dtype`."""
    return jnp.sum(x, axis=tuple(range(x.ndim - 1)), dtype=exact(x)).astype(dtype)


def mean_of_channels(x, weights):
    """Returns the mean over the last axis, whose channels are multiplied with weights before.

    It is a product, for which XLA for CPU does not write the weights out as large as `x`.
    """
    return jnp.matmul(x, weights / x.shape[-1], precision="highest")
