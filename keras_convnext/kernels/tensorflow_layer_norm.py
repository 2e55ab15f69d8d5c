"""LayerNorm for TensorFlow on CPU, whose means over the channels are products with ones.

TensorFlow's own reductions over the last axis take several times as long. Values in half precision
are normalised in float32.
"""

import tensorflow as tf

from keras_convnext.kernels.tensorflow_sums import exact


def layer_norm(inputs, gamma, beta, epsilon: float, training: bool = False):
    """Same arguments and result as `kernels.layer_norm.reference`."""
    rows = tf.cast(tf.reshape(inputs, (-1, inputs.shape[-1])), exact(inputs))
    # Keras's variables pass for tensors, but gradients of one's own must not meet variables.
    gamma, beta = (tf.cast(tf.convert_to_tensor(weight), rows.dtype) for weight in (gamma, beta))
    if training:
        outputs = _with_own_gradients(rows, gamma, beta, epsilon)
    else:
        outputs = _normalize(rows, epsilon)[0] * gamma + beta
    outputs = tf.reshape(tf.cast(outputs, inputs.dtype), tf.shape(inputs))
    return tf.ensure_shape(outputs, inputs.shape)


def _normalize(rows, epsilon):
    """Returns the rows with mean 0 and variance 1, and what they were multiplied by."""
    averaging = _averaging(rows)
    centred = rows - tf.matmul(rows, averaging)
    scale = tf.math.rsqrt(tf.matmul(tf.square(centred), averaging) + epsilon)
    return centred * scale, scale


def _averaging(rows):
    """A column by which a product gives every row's mean."""
    channels = rows.shape[-1]
    return tf.fill((channels, 1), tf.constant(1 / channels, rows.dtype))


def _with_own_gradients(rows, gamma, beta, epsilon):
    @tf.custom_gradient
    def normalize(rows, gamma, beta):
        normalized, scale = _normalize(rows, epsilon)

        def gradients(output_gradient):
            ones = tf.ones((1, tf.shape(rows)[0]), rows.dtype)
            scaled = output_gradient * normalized
            weights = gamma[:, tf.newaxis] * _averaging(rows)
            mean, mean_along = tf.matmul(output_gradient, weights), tf.matmul(scaled, weights)
            rows_gradient = scale * (output_gradient * gamma - mean - normalized * mean_along)
            return rows_gradient, tf.matmul(ones, scaled)[0], tf.matmul(ones, output_gradient)[0]

        return normalized * gamma + beta, gradients

    return normalize(rows, gamma, beta)
