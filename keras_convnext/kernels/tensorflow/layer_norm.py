"""LayerNorm for TensorFlow on CPU, whose means over the channels are matrix multiplications.

TensorFlow's reductions over the last axis take several times as long. Half precision is normalized
in float32.
"""

import tensorflow as tf

from keras_convnext.kernels.tensorflow.common import (
    accumulation_dtype,
    as_images,
    as_rows,
    channel_mean,
    reduce_rows,
)


def layer_norm(inputs, gamma, beta, epsilon: float, training: bool = False):
    """Has the contract of `reference.layer_norm`."""
    rows = as_rows(inputs)
    # Keras variables pass for tensors, but a custom gradient must not see variables.
    weights = map(tf.convert_to_tensor, (gamma, beta))
    gamma, beta = (tf.cast(weight, accumulation_dtype(rows)) for weight in weights)
    if training:
        outputs = _with_custom_gradient(rows, gamma, beta, epsilon)
    else:
        outputs = normalize(rows, epsilon)[0] * gamma + beta
    return as_images(tf.cast(outputs, inputs.dtype), inputs)


def normalize(rows, epsilon: float):
    """Returns the rows with mean 0 and variance 1, and their inverse standard deviations."""
    rows = tf.cast(rows, accumulation_dtype(rows))
    centered = rows - channel_mean(rows)
    inverse_std = tf.math.rsqrt(channel_mean(tf.square(centered)) + epsilon)
    return centered * inverse_std, inverse_std


def layer_norm_gradients(output_gradient, normalized, inverse_std, gamma):
    """Returns the gradients of LayerNorm's input, factors and offsets.

    Args:
        output_gradient: Gradient of `normalized * gamma + beta`.
        normalized: As returned by `normalize`.
        inverse_std: As returned by `normalize`.
        gamma: LayerNorm's factors.
    """
    dtype = output_gradient.dtype
    output_gradient = tf.cast(output_gradient, normalized.dtype)
    grad_times_x = output_gradient * normalized
    mean = channel_mean(output_gradient, gamma)
    mean_times_x = channel_mean(grad_times_x, gamma)
    rows_gradient = inverse_std * (output_gradient * gamma - mean - normalized * mean_times_x)
    return tf.cast(rows_gradient, dtype), reduce_rows(grad_times_x), reduce_rows(output_gradient)


def _with_custom_gradient(rows, gamma, beta, epsilon):
    @tf.custom_gradient
    def run(rows, gamma, beta):
        normalized, inverse_std = normalize(rows, epsilon)

        def gradients(output_gradient):
            output_gradient = tf.cast(output_gradient, rows.dtype)
            return layer_norm_gradients(output_gradient, normalized, inverse_std, gamma)

        return normalized * gamma + beta, gradients

    return run(rows, gamma, beta)
