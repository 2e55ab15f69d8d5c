"""LayerNorm for TensorFlow on CPU, whose means over the channels are products with ones.

TensorFlow's own reductions over the last axis take several times as long. Values in half precision
are normalised in float32.
"""

import tensorflow as tf

from keras_convnext.kernels.tensorflow.rows import images_of, rows_of
from keras_convnext.kernels.tensorflow.sums import exact, mean_of_channels, sum_of_rows


def layer_norm(inputs, gamma, beta, epsilon: float, training: bool = False):
    """Same arguments and result as `kernels.layer_norm.reference`."""
    rows = rows_of(inputs)
    # Keras's variables pass for tensors, but gradients of one's own must not meet variables.
    weights = map(tf.convert_to_tensor, (gamma, beta))
    gamma, beta = (tf.cast(weight, exact(rows)) for weight in weights)
    if training:
        outputs = _with_own_gradients(rows, gamma, beta, epsilon)
    else:
        outputs = normalize(rows, epsilon)[0] * gamma + beta
    return images_of(tf.cast(outputs, inputs.dtype), inputs)


def normalize(rows, epsilon: float):
    """Returns the rows with mean 0 and variance 1, and what they were multiplied by."""
    rows = tf.cast(rows, exact(rows))
    centred = rows - mean_of_channels(rows)
    scale = tf.math.rsqrt(mean_of_channels(tf.square(centred)) + epsilon)
    return centred * scale, scale


def normalize_gradient(output_gradient, normalized, scale, gamma):
    """Returns the gradients for what was normalised, and for LayerNorm's scale and offset.

    Args:
        output_gradient: Gradient of `normalized * gamma + beta`.
        normalized: What `normalize` returned.
        scale: The other thing it returned.
        gamma: LayerNorm's scale.
    """
    dtype = output_gradient.dtype
    output_gradient = tf.cast(output_gradient, normalized.dtype)
    along = output_gradient * normalized
    mean, mean_along = mean_of_channels(output_gradient, gamma), mean_of_channels(along, gamma)
    rows_gradient = scale * (output_gradient * gamma - mean - normalized * mean_along)
    return tf.cast(rows_gradient, dtype), sum_of_rows(along), sum_of_rows(output_gradient)


def _with_own_gradients(rows, gamma, beta, epsilon):
    @tf.custom_gradient
    def run(rows, gamma, beta):
        normalized, scale = normalize(rows, epsilon)

        def gradients(output_gradient):
            return normalize_gradient(
                tf.cast(output_gradient, rows.dtype), normalized, scale, gamma
            )

        return normalized * gamma + beta, gradients

    return run(rows, gamma, beta)
