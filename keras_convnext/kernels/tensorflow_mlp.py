"""A block's two dense layers for TensorFlow, as products of matrices.

TensorFlow adds the bias and takes GELU within a product where it sees just that: a product of
matrices, not of images, and GELU written with erf. For training the gradients are written out, so
that the hidden units before GELU are all that is kept of them; GELU and its derivative, of a dozen
operations on them, are compiled by XLA into passes of their own.
"""

import math

import tensorflow as tf

from keras_convnext.kernels.tensorflow_sums import sum_of_rows


def mlp(inputs, kernel_1, bias_1, kernel_2, bias_2, training: bool = False):
    """Same arguments and result as `kernels.mlp.reference`."""
    rows = tf.reshape(inputs, (-1, inputs.shape[-1]))
    # Keras's variables pass for tensors, but gradients of one's own must not meet variables.
    tensors = map(tf.convert_to_tensor, (kernel_1, bias_1, kernel_2, bias_2))
    weights = [tf.cast(tensor, inputs.dtype) for tensor in tensors]
    outputs = _with_own_gradients(rows, *weights) if training else _forward(rows, *weights)
    shape = tf.concat([tf.shape(inputs)[:-1], tf.shape(outputs)[-1:]], axis=0)
    return tf.ensure_shape(tf.reshape(outputs, shape), (*inputs.shape[:-1], outputs.shape[-1]))


def _forward(rows, kernel_1, bias_1, kernel_2, bias_2):
    hidden = tf.nn.bias_add(tf.matmul(rows, kernel_1), bias_1)
    return tf.nn.bias_add(tf.matmul(_gelu(hidden), kernel_2), bias_2)


@tf.custom_gradient
def _with_own_gradients(rows, kernel_1, bias_1, kernel_2, bias_2):
    hidden = tf.nn.bias_add(tf.matmul(rows, kernel_1), bias_1)
    outputs = tf.nn.bias_add(tf.matmul(_compiled_gelu(hidden), kernel_2), bias_2)

    def gradients(output_gradient):
        activated_gradient = tf.matmul(output_gradient, kernel_2, transpose_b=True)
        activated, hidden_gradient = _compiled_gelu_and_gradient(hidden, activated_gradient)
        return (
            tf.matmul(hidden_gradient, kernel_1, transpose_b=True),
            tf.matmul(rows, hidden_gradient, transpose_a=True),
            sum_of_rows(hidden_gradient),
            tf.matmul(activated, output_gradient, transpose_a=True),
            sum_of_rows(output_gradient),
        )

    return outputs, gradients


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
