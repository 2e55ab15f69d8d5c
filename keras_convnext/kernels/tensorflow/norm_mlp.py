"""A block's LayerNorm, dense layers and layer scale for TensorFlow, as products of matrices.

TensorFlow adds the bias and takes GELU within a product where it sees just that: a product of
matrices, not of images, and GELU written with erf. For training the gradients are written out, so
that the hidden units before GELU are all that is kept of them, and LayerNorm's result is not; GELU
and its derivative, of a dozen operations on them, are compiled by XLA into passes of their own.
"""

import math

import tensorflow as tf

from keras_convnext.kernels.norm_mlp import keeps_unscaled
from keras_convnext.kernels.tensorflow.layer_norm import (
    layer_norm,
    normalize,
    normalize_gradient,
)
from keras_convnext.kernels.tensorflow.rows import images_of, rows_of
from keras_convnext.kernels.tensorflow.sums import exact, sum_of_rows


def norm_mlp(
    inputs,
    gamma,
    beta,
    kernel_1,
    bias_1,
    kernel_2,
    bias_2,
    scale,
    epsilon: float,
    training: bool = False,
):
    """Same arguments and result as `kernels.norm_mlp.reference`."""
    rows = rows_of(inputs)
    # Keras's variables pass for tensors, but gradients of one's own must not meet variables.
    tensors = map(tf.convert_to_tensor, (kernel_1, bias_1, kernel_2, bias_2))
    dense = [tf.cast(tensor, inputs.dtype) for tensor in tensors]
    scale = None if scale is None else tf.cast(tf.convert_to_tensor(scale), exact(rows))
    if training:
        norm = [tf.cast(tf.convert_to_tensor(weight), exact(rows)) for weight in (gamma, beta)]
        outputs = _with_own_gradients(rows, norm, dense, scale, epsilon)
    else:
        normed = layer_norm(rows, gamma, beta, epsilon)
        outputs = _scaled(_dense_layers(_gelu, normed, *dense)[-1], scale)
    return images_of(outputs, inputs)


def _dense_layers(activation, rows, kernel_1, bias_1, kernel_2, bias_2):
    """Returns the hidden units before GELU, and the result."""
    hidden = tf.nn.bias_add(tf.matmul(rows, kernel_1), bias_1)
    return hidden, tf.nn.bias_add(tf.matmul(activation(hidden), kernel_2), bias_2)


def _scaled(outputs, scale):
    if scale is None:
        return outputs
    return tf.cast(tf.cast(outputs, scale.dtype) * scale, outputs.dtype)


def _with_own_gradients(rows, norm, dense, scale, epsilon):
    @tf.custom_gradient
    def run(rows, gamma, beta, kernel_1, bias_1, kernel_2, bias_2, scale=None):
        normalized, root = normalize(rows, epsilon)
        dense = kernel_1, bias_1, kernel_2, bias_2
        normed = tf.cast(normalized * gamma + beta, rows.dtype)
        hidden, unscaled = _dense_layers(_compiled_gelu, normed, *dense)
        keeps = keeps_unscaled(rows.shape[0], kernel_2.shape[0])

        def gradients(output_gradient):
            of_second = _second_layers_gradients(
                output_gradient, hidden, kernel_2, bias_2, scale, unscaled if keeps else None
            )
            hidden_gradient, *second_and_scale = of_second
            # Otherwise TensorFlow would keep what it had, as the result would be the same.
            with tf.control_dependencies([output_gradient]):
                normed = tf.cast(tf.identity(normalized) * gamma + beta, rows.dtype)
            normed_gradient = tf.matmul(hidden_gradient, kernel_1, transpose_b=True)
            return (
                *normalize_gradient(normed_gradient, normalized, root, gamma),
                tf.matmul(normed, hidden_gradient, transpose_a=True),
                sum_of_rows(hidden_gradient),
                *second_and_scale,
            )

        return _scaled(unscaled, scale), gradients

    return run(rows, *norm, *dense, *([] if scale is None else [scale]))


def _second_layers_gradients(output_gradient, hidden, kernel, bias, scale, unscaled):
    """Returns the gradients for the hidden units, the second layer's weights and layer scale."""
    scaled = _scaled(output_gradient, scale)
    activated_gradient = tf.matmul(scaled, kernel, transpose_b=True)
    activated, hidden_gradient = _compiled_gelu_and_gradient(hidden, activated_gradient)
    if scale is None or unscaled is not None:
        kernel_gradient = tf.matmul(activated, scaled, transpose_a=True)
        gradients = hidden_gradient, kernel_gradient, sum_of_rows(scaled)
        return gradients if scale is None else (*gradients, _sum_along(output_gradient, unscaled))
    along_kernel = tf.matmul(activated, output_gradient, transpose_a=True)
    along_bias = sum_of_rows(output_gradient)
    scale_gradient = _sum_along(along_kernel, kernel) + tf.cast(along_bias * bias, scale.dtype)
    return hidden_gradient, _scaled(along_kernel, scale), _scaled(along_bias, scale), scale_gradient


def _sum_along(a, b):
    """Returns the sum of the rows of two matrices' elementwise product."""
    return sum_of_rows(tf.cast(a, exact(a)) * tf.cast(b, exact(b)))


@tf.function(jit_compile=True)
def _compiled_gelu(x):
    return _gelu(x)


@tf.function(jit_compile=True)
def _compiled_gelu_and_gradient(x, output_gradient):
    """Returns GELU of `x` once more, and the gradient for `x`."""
    return _gelu(x), output_gradient * _gelu_derivative(x)


def _gelu(x):
    return 0.5 * x * (1.0 + tf.math.erf(x * math.sqrt(0.5)))


def _gelu_derivative(x):
    cumulative = 0.5 * (1.0 + tf.math.erf(x * math.sqrt(0.5)))
    return cumulative + x * (tf.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi)))
