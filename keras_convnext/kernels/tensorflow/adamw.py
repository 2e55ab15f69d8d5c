"""AdamW for TensorFlow on CPU, by the fused operation behind its own Adam optimizers.

The operation makes one pass over a weight and its moments. As single operations there would be ten
passes, a fifth of a train step on one image. Weight decay is a pass of its own, before it.
"""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras_convnext.kernels.shapes import wrong_gradient


def adamw(update, learning_rate, betas: Sequence[float], epsilon: float) -> Callable:
    """Has the contract of `reference.adamw`."""

    # Cached, so that a graph holds one copy for all weights with the same multiplier and dtype.
    @functools.cache
    def scaled_rate(factor, dtype):
        return tf.cast(learning_rate, dtype) * factor

    @functools.cache
    def settings(lr_multiplier, dtype):
        bias_correction1, bias_correction2 = (_bias_correction(b, update, dtype) for b in betas)
        # The operation would correct the bias with powers of the betas, which lose digits in
        # float32, and adds epsilon before the correction. So the correction is done here.
        no_power = tf.zeros((), dtype)
        return {
            "beta1_power": no_power,
            "beta2_power": no_power,
            "lr": scaled_rate(lr_multiplier, dtype) * tf.sqrt(bias_correction2) / bias_correction1,
            "beta1": tf.constant(betas[0], dtype),
            "beta2": tf.constant(betas[1], dtype),
            "epsilon": epsilon * tf.sqrt(bias_correction2),
        }

    def apply(variable, gradient, moments, lr_multiplier: float, weight_decay: float) -> None:
        if not gradient.shape.is_compatible_with(variable.shape):  # before anything is changed
            raise wrong_gradient(gradient, variable)
        dtype = gradient.dtype
        if weight_decay:
            variable.assign_sub(variable * scaled_rate(lr_multiplier * weight_decay, dtype))
        arguments = settings(lr_multiplier, dtype) | {
            "var": variable.handle,
            "m": moments.exp_avg.handle,
            "v": moments.exp_avg_sq.handle,
            "grad": gradient,
        }
        if moments.max_exp_avg_sq is None:
            tf.raw_ops.ResourceApplyAdam(**arguments)
        else:
            vhat = moments.max_exp_avg_sq.handle
            tf.raw_ops.ResourceApplyAdamWithAmsgrad(**arguments, vhat=vhat)

    return apply


def _bias_correction(beta: float, update, dtype):
    """Returns 1 - beta**update, for beta as the operation rounds it."""
    # The operation computes 1 - beta in `dtype`: for 0.999 rounding changes the fifth digit.
    rounded = float(1 - np.asarray(beta, dtype.as_numpy_dtype))
    return -tf.math.expm1(tf.cast(update, dtype) * math.log1p(-rounded))
