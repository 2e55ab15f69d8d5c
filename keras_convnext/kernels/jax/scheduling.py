"""What makes XLA wait: on CPU it begins whatever can be begun, however long the result must lie."""

import jax
import jax.numpy as jnp


def zero_known_after(x):
    """Returns a zero that is not known before `x` is.

    Added to saved values, it keeps what is made of them again, for the gradients, from being made
    while the forward pass still runs and kept from then on: there it would take more memory than
    what was left out of the saved values. XLA removes `jax.lax.optimization_barrier` too early.
    On other devices XLA minds the memory by itself, and `x` may be spread over several of them.

    Args:
        x: What to wait for, such as the output's gradient. Where it begins with a NaN, this is NaN.
    """
    if jax.default_backend() != "cpu" or 0 in x.shape:
        return 0
    return jax.lax.stop_gradient(jnp.minimum(jnp.abs(x[(0,) * x.ndim]), 0))
