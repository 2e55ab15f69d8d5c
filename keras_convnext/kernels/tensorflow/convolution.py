"""Convolutions for TensorFlow on CPU, whose forward pass is fast and whose gradients are slow.

The gradient of a depthwise kernel is a depthwise convolution too: of each image, with that image's
output gradient as a kernel as large as the image. It takes a third to a fifteenth of the time of
TensorFlow's own. The gradients of a convolution of patches are matrix multiplications.
"""

import tensorflow as tf

from keras_convnext.kernels import reference
from keras_convnext.kernels.patches import patch_matmul
from keras_convnext.kernels.shapes import too_small
from keras_convnext.kernels.tensorflow.common import (
    accumulation_dtype,
    as_rows,
    reduce_rows,
    sizes_of,
)


def depthwise_conv2d(inputs, kernel, bias=None, training: bool = False):
    """Has the contract of `reference.depthwise_conv2d`."""
    values = inputs.shape[1:].num_elements()  # `None` if a size is unknown while tracing
    if not training or values is None or values < reference.MIN_VALUES_PER_IMAGE:
        return reference.depthwise_conv2d(inputs, kernel, bias)
    return _depthwise_with_custom_gradient(inputs, kernel, *([] if bias is None else [bias]))


@tf.custom_gradient
def _depthwise_with_custom_gradient(inputs, kernel, bias=None):
    def gradients(output_gradient):
        flipped = tf.reverse(kernel, axis=(0, 1))
        bias_gradient = [] if bias is None else [reduce_rows(as_rows(output_gradient))]
        return (
            _convolve(output_gradient, flipped, "SAME"),
            _kernel_gradient(inputs, output_gradient, kernel.shape),
            *bias_gradient,
        )

    outputs = _convolve(inputs, kernel, "SAME")
    return outputs if bias is None else tf.nn.bias_add(outputs, bias), gradients


def _convolve(inputs, kernel, padding):
    return tf.nn.depthwise_conv2d(inputs, kernel, (1, 1, 1, 1), padding)


def _kernel_gradient(inputs, output_gradient, shape):
    rows, columns, channels, _ = shape
    padding = ((0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0))

    def add_image(index, total):
        image = tf.pad(inputs[index : index + 1], padding)
        taps = _convolve(image, tf.expand_dims(output_gradient[index], axis=-1), "VALID")
        return index + 1, total + tf.cast(taps[0], total.dtype)

    batch = sizes_of(inputs)[0]
    start = tf.constant(0), tf.zeros((rows, columns, channels), accumulation_dtype(inputs))
    _, total = tf.while_loop(lambda index, _: index < batch, add_image, start)
    return tf.expand_dims(tf.cast(total, inputs.dtype), axis=-1)


def patch_conv2d(inputs, kernel, bias, training: bool = False):
    """Has the contract of `reference.patch_conv2d`."""
    inputs = _check_size(inputs, kernel.shape[0])
    batch = inputs.shape[0]
    if training or batch == 0:
        return patch_matmul(inputs, kernel, bias)
    if batch is not None:
        return reference.patch_conv2d(inputs, kernel, bias)
    # For an empty batch, TensorFlow's convolution on CPU returns the shape of its inputs. A reshape
    # to the right one would be removed as having no effect, so the bias is added to rows.
    size, sides = kernel.shape[0], sizes_of(inputs)
    rows = as_rows(tf.nn.conv2d(inputs, kernel, size, "VALID")) + bias
    shape = [sides[0], sides[1] // size, sides[2] // size, kernel.shape[-1]]
    return tf.reshape(rows, shape)


def _check_size(inputs, size):
    """Checks the image size at run time if it is unknown while tracing."""
    if None not in inputs.shape[1:3]:
        return inputs
    smallest = tf.reduce_min(tf.shape(inputs)[1:3])
    check = tf.debugging.assert_greater_equal(smallest, size, too_small(size))
    with tf.control_dependencies([check]):
        return tf.identity(inputs)
