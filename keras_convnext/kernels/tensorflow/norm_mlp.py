"""LayerNorm, dense layers and layer scale of a block for TensorFlow.

TensorFlow fuses a bias and GELU into a matmul only if it sees exactly these: a matmul of matrices,
not of images, and GELU written with erf. For training there is a custom gradient, which saves only
the hidden units before GELU, and recomputes LayerNorm's result. GELU and its derivative, a dozen
operations on the hidden units, are compiled by XLA into one pass each.
"""

import math

import tensorflow as tf

from keras_convnext.kernels.reference import BlockParams, save_unscaled
from keras_convnext.kernels.tensorflow.common import (
    accumulation_dtype,
    as_images,
    as_rows,
    reduce_rows,
)
from keras_convnext.kernels.tensorflow.layer_norm import (
    layer_norm,
    layer_norm_gradients,
    normalize,
)


def norm_mlp(inputs, params: BlockParams, epsilon: float, training: bool = False):
    """Has the contract of `reference.norm_mlp`."""
    rows = as_rows(inputs)
    exact = accumulation_dtype(rows)
    params = params.map_dense(lambda weight: _cast(weight, inputs.dtype))
    if params.scale is not None:
        params = params._replace(scale=_cast(params.scale, exact))
    if training:
        params = params.map_norm(lambda weight: _cast(weight, exact))
        outputs = _with_custom_gradient(rows, params, epsilon)
    else:
        normed = layer_norm(rows, params.gamma, params.beta, epsilon)
        outputs = _scaled(_dense_layers(_gelu, normed, params)[1], params.scale)
    return as_images(outputs, inputs)


def _cast(weight, dtype):
    # Keras variables pass for tensors, but a custom gradient must not see variables.
    return tf.cast(tf.convert_to_tensor(weight), dtype)


def _dense_layers(activation, rows, params):
    """Returns the hidden units before GELU, and the result before layer scale."""
    hidden = tf.nn.bias_add(tf.matmul(rows, params.kernel_1), params.bias_1)
    return hidden, tf.nn.bias_add(tf.matmul(activation(hidden), params.kernel_2), params.bias_2)


def _scaled(outputs, scale):
    if scale is None:
        return outputs
    return tf.cast(tf.cast(outputs, scale.dtype) * scale, outputs.dtype)


def _with_custom_gradient(rows, params, epsilon):
    @tf.custom_gradient
    def run(rows, *tensors):
        params = BlockParams(*tensors)
        normalized, inverse_std = normalize(rows, epsilon)
        normed = tf.cast(normalized * params.gamma + params.beta, rows.dtype)
        hidden, unscaled = _dense_layers(_compiled_gelu, normed, params)
        saved = unscaled if save_unscaled(rows.shape[0], params.kernel_2.shape[0]) else None

        def gradients(output_gradient):
            hidden_gradient, second = _second_layer_gradients(
                output_gradient, hidden, params, saved
            )
            # Without the identity TensorFlow would save the first `normed` instead of recomputing.
            with tf.control_dependencies([output_gradient]):
                normed = tf.cast(tf.identity(normalized) * params.gamma + params.beta, rows.dtype)
            normed_gradient = tf.matmul(hidden_gradient, params.kernel_1, transpose_b=True)
            rows_gradient, gamma_gradient, beta_gradient = layer_norm_gradients(
                normed_gradient, normalized, inverse_std, params.gamma
            )
            result = second._replace(
                gamma=gamma_gradient,
                beta=beta_gradient,
                kernel_1=tf.matmul(normed, hidden_gradient, transpose_a=True),
                bias_1=reduce_rows(hidden_gradient),
            )
            return rows_gradient, *_tensors(result)

        return _scaled(unscaled, params.scale), gradients

    return run(rows, *_tensors(params))


def _tensors(params):
    """Returns the tensors of `params` in order; TensorFlow takes no `None` for a tensor."""
    return [tensor for tensor in params if tensor is not None]


def _second_layer_gradients(output_gradient, hidden, params, unscaled):
    """Returns the gradient of the hidden units, and those of the second layer and layer scale.

    Args:
        output_gradient: Gradient of the result.
        hidden: Hidden units before GELU.
        params: The weights.
        unscaled: Input of layer scale, or `None` if it was not saved.
    """
    scale = params.scale
    scaled_gradient = _scaled(output_gradient, scale)
    activated_gradient = tf.matmul(scaled_gradient, params.kernel_2, transpose_b=True)
    activated, hidden_gradient = _compiled_gelu_and_gradient(hidden, activated_gradient)
    scale_gradient = None
    if scale is None or unscaled is not None:
        kernel_gradient = tf.matmul(activated, scaled_gradient, transpose_a=True)
        bias_gradient = reduce_rows(scaled_gradient)
        if scale is not None:
            scale_gradient = _reduce_product(output_gradient, unscaled)
    else:
        kernel_gradient = tf.matmul(activated, output_gradient, transpose_a=True)
        bias_gradient = reduce_rows(output_gradient)
        scale_gradient = _reduce_product(kernel_gradient, params.kernel_2)
        scale_gradient += tf.cast(bias_gradient * params.bias_2, scale.dtype)
        kernel_gradient = _scaled(kernel_gradient, scale)
        bias_gradient = _scaled(bias_gradient, scale)
    return hidden_gradient, BlockParams(
        None, None, None, None, kernel_gradient, bias_gradient, scale_gradient
    )


def _reduce_product(a, b):
    """Returns the sum of the rows of the elementwise product of two matrices."""
    exact = accumulation_dtype(a)
    return reduce_rows(tf.cast(a, exact) * tf.cast(b, exact))


@tf.function(jit_compile=True)
def _compiled_gelu(x):
    return _gelu(x)


@tf.function(jit_compile=True)
def _compiled_gelu_and_gradient(x, output_gradient):
    """Recomputes GELU of `x`, and returns it with the gradient of `x`."""
    return _gelu(x), output_gradient * _gelu_derivative(x)


def _gelu(x):
    return 0.5 * x * (1.0 + tf.math.erf(x * math.sqrt(0.5)))


def _gelu_derivative(x):
    cumulative = 0.5 * (1.0 + tf.math.erf(x * math.sqrt(0.5)))
    return cumulative + x * (tf.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi)))
