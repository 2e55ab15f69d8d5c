"""AdamW's update for TensorFlow, by the operation behind its own optimizers' Adam.

It changes a weight and its averages in place, and goes over them once; weight decay comes before.
Single operations go over them ten times, and are a fifth of a train step of one image.
"""

import math

import numpy as np
import tensorflow as tf


def adamw(
    weight, gradient, mean, square, greatest, update, rate, decay: float, betas, epsilon: float
) -> None:
    """Moves a weight and its averages in place; same arguments as `torch_adamw.adamw`."""
    if decay:
        weight.assign_sub(weight * (rate * decay))
    of_mean, of_square = (_sum_of_weights(beta, update, gradient.dtype) for beta in betas)
    # The operation corrects the averages' bias by itself, from powers of the betas in which the
    # digits that count are lost, and adds epsilon to the root before: both are done here.
    no_power = tf.zeros((), gradient.dtype)
    settings = {
        "beta1_power": no_power,
        "beta2_power": no_power,
        "lr": rate * tf.sqrt(of_square) / of_mean,
        "beta1": tf.constant(betas[0], gradient.dtype),
        "beta2": tf.constant(betas[1], gradient.dtype),
        "epsilon": epsilon * tf.sqrt(of_square),
        "grad": gradient,
    }
    variables = {"var": weight.handle, "m": mean.handle, "v": square.handle}
    if greatest is None:
        tf.raw_ops.ResourceApplyAdam(**variables, **settings)
    else:
        tf.raw_ops.ResourceApplyAdamWithAmsgrad(**variables, vhat=greatest.handle, **settings)


def _sum_of_weights(beta: float, update, dtype):
    """Returns what the terms of an average have as weights in sum, and it must be divided by."""
    # What a new term counts, as the operation rounds it: for 0.999 that is the fifth digit.
    of_new_term = float(1 - np.asarray(beta, dtype.as_numpy_dtype))
    return -tf.math.expm1(tf.cast(update, dtype) * math.log1p(-of_new_term))
