"""A block's two dense layers for JAX on CPU by oneDNN, which adds biases and takes GELU itself.

As in `jax_mlp` the hidden units before GELU are kept for the gradients, and the rest is computed
again. The rows are not taken in parts: what XLA's loops cost is more than what they save here.
"""

import jax

from keras_convnext.kernels import jax_mlp as by_xla
from keras_convnext.kernels.jax_cast import cast
from keras_convnext.kernels.jax_gelu import gelu, gelu_derivative
from keras_convnext.kernels.jax_onednn import matmul
from keras_convnext.kernels.jax_onednn_product import dense, product
from keras_convnext.kernels.jax_onednn_support import takes
from keras_convnext.kernels.jax_scheduling import zero_known_after
from keras_convnext.kernels.jax_sums import sum_of_rows


def mlp(inputs, kernel_1, bias_1, kernel_2, bias_2, training: bool = False):
    """Same arguments and result as `kernels.mlp.reference`."""
    weights = [cast(weight, inputs.dtype) for weight in (kernel_1, bias_1, kernel_2, bias_2)]
    if not takes(inputs, *weights):
        return by_xla.mlp(inputs, kernel_1, bias_1, kernel_2, bias_2, training)
    rows = inputs.reshape(-1, inputs.shape[-1])
    return _mlp(rows, *weights).reshape(inputs.shape)


@jax.custom_vjp
def _mlp(rows, kernel_1, bias_1, kernel_2, bias_2):
    return matmul(matmul(rows, kernel_1, bias_1, gelu=True), kernel_2, bias_2)


def _forward(rows, kernel_1, bias_1, kernel_2, bias_2):
    hidden = dense(rows, kernel_1, bias_1)
    saved = rows, hidden, kernel_1, bias_1, kernel_2, bias_2
    return dense(gelu(hidden), kernel_2, bias_2), saved


def _backward(saved, output_gradient):
    rows, hidden, kernel_1, bias_1, kernel_2, bias_2 = saved
    hidden += zero_known_after(output_gradient)
    activated_gradient = product(output_gradient, kernel_2, transpose_b=True)
    hidden_gradient = activated_gradient * gelu_derivative(hidden)
    return (
        product(hidden_gradient, kernel_1, transpose_b=True),
        product(rows, hidden_gradient, transpose_a=True),
        sum_of_rows(hidden_gradient, bias_1.dtype),
        product(gelu(hidden), output_gradient, transpose_a=True),
        sum_of_rows(output_gradient, bias_2.dtype),
    )


_mlp.defvjp(_forward, _backward)
