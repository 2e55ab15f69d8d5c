"""Sums in at least float32 for JAX, and a control dependency."""

import jax
import jax.numpy as jnp


def accumulation_dtype(x):
    """Returns the dtype to sum values of `x` in: in bfloat16 a sum stops growing at 256 ones."""
    return jnp.promote_types(x.dtype, jnp.float32)


def reduce_leading_axes(x, dtype):
    """Returns the sum over all axes but the last, such as the gradient of a bias, as `dtype`."""
    axes = tuple(range(x.ndim - 1))
    return jnp.sum(x, axis=axes, dtype=accumulation_dtype(x)).astype(dtype)


def channel_mean(x, weights):
    """Returns the mean over the last axis of `x * weights`.

    It is a matmul, for which XLA on CPU does not materialize the weights at the size of `x`.
    """
    return jnp.matmul(x, weights / x.shape[-1], precision="highest")


def zero_depending_on(x):
    """Returns a zero that is not known before `x` is: a control dependency.

    Add this zero to residuals to stop XLA on CPU from recomputing activations too early, during the
    forward pass, where they would hold memory until the backward pass. XLA removes
    `jax.lax.optimization_barrier` before it schedules. On other devices XLA schedules for memory by
    itself, and `x` may be sharded.

    Args:
        x: What to wait for, such as the output gradient. If its first value is NaN, so is the zero.
    """
    if jax.default_backend() != "cpu" or 0 in x.shape:
        return 0
    return jax.lax.stop_gradient(jnp.minimum(jnp.abs(x[(0,) * x.ndim]), 0))
