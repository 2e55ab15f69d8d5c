"""AdamW's update for TensorFlow, by the operation behind its own optimizers' Adam.

It changes a weight and its averages in place, and goes over them once; weight decay comes before.
Single operations go over them ten times, and are a fifth of a train step of one image.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_convnext.kernels.shapes import wrong_gradient


def adamw(update, rate, betas, epsilon: float) -> Callable:
    """Same arguments and result as `torch.adamw.adamw`."""

    @functools.cache
    def scaled(rate_scale, dtype):
        return tf.cast(rate, dtype) * rate_scale

    @functools.cache
    def settings(scale, dtype):
        of_mean, of_square = (_sum_of_weights(beta, update, dtype) for beta in betas)
        # The operation corrects the averages' bias by itself, from powers of the betas in which
        # the digits that count are lost, and adds epsilon to the root before: both are done here.
        no_power = tf.zeros((), dtype)
        return {
            "beta1_power": no_power,
            "beta2_power": no_power,
            "lr": scaled(scale, dtype) * tf.sqrt(of_square) / of_mean,
            "beta1": tf.constant(betas[0], dtype),
            "beta2": tf.constant(betas[1], dtype),
            "epsilon": epsilon * tf.sqrt(of_square),
        }

    def move(weight, gradient, mean, square, greatest, scale: float, decay: float) -> None:
        if not gradient.shape.is_compatible_with(weight.shape):  # before anything is changed
            raise wrong_gradient(gradient, weight)
        dtype = gradient.dtype
        if decay:
            weight.assign_sub(weight * scaled(scale * decay, dtype))
        arguments = {"var": weight.handle, "m": mean.handle, "v": square.handle, "grad": gradient}
        arguments |= settings(scale, dtype)
        if greatest is None:
            tf.raw_ops.ResourceApplyAdam(**arguments)
        else:
            tf.raw_ops.ResourceApplyAdamWithAmsgrad(**arguments, vhat=greatest.handle)

    return move


def _sum_of_weights(beta: float, update, dtype):
    """Returns what the terms of an average have as weights in sum, and it must be divided by."""
    # What a new term counts, as the operation rounds it: for 0.999 that is the fifth digit.
    of_new_term = float(1 - np.asarray(beta, dtype.as_numpy_dtype))
    return -tf.math.expm1(tf.cast(update, dtype) * math.log1p(-of_new_term))
