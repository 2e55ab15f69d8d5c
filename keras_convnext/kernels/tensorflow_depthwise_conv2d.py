"""Depthwise convolution for TensorFlow on CPU, whose gradient of the kernel is slow.

That gradient is a depthwise convolution too: of every image, with that image's output gradient as a
kernel of the image's size. It takes a third to a fifteenth of the time of TensorFlow's own.
"""

import tensorflow as tf

from keras_convnext.kernels.depthwise_conv2d import LEAST_VALUES_OF_AN_IMAGE, reference
from keras_convnext.kernels.tensorflow_sums import exact, sum_of_rows


def depthwise_conv2d(inputs, kernel, bias=None, training: bool = False):
    """Same arguments and result as `kernels.depthwise_conv2d`."""
    values = inputs.shape[1:].num_elements()  # `None` where a size is open
    if not training or values is None or values < LEAST_VALUES_OF_AN_IMAGE:
        return reference(inputs, kernel, bias)
    outputs = _with_own_gradients(inputs, kernel)
    return outputs if bias is None else _plus_bias(outputs, bias)


@tf.custom_gradient
def _with_own_gradients(inputs, kernel):
    def gradients(output_gradient):
        turned_around = tf.reverse(kernel, axis=(0, 1))
        return (
            _convolve(output_gradient, turned_around, "SAME"),
            _kernel_gradient(inputs, output_gradient, kernel.shape),
        )

    return _convolve(inputs, kernel, "SAME"), gradients


@tf.custom_gradient
def _plus_bias(outputs, bias):
    def gradients(output_gradient):
        rows = tf.reshape(output_gradient, (-1, bias.shape[0]))
        return output_gradient, sum_of_rows(rows)

    return tf.nn.bias_add(outputs, bias), gradients


def _convolve(inputs, kernel, padding):
    return tf.nn.depthwise_conv2d(inputs, kernel, (1, 1, 1, 1), padding)


def _kernel_gradient(inputs, output_gradient, shape):
    rows, columns, channels, _ = shape
    padding = ((0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0))

    def add_gradient_of_image(number, total):
        image = tf.pad(inputs[number : number + 1], padding)
        taps = _convolve(image, output_gradient[number][..., tf.newaxis], "VALID")
        return number + 1, total + tf.cast(taps[0], total.dtype)

    count = tf.shape(inputs)[0]
    start = tf.constant(0), tf.zeros((rows, columns, channels), exact(inputs))
    _, total = tf.while_loop(lambda number, _: number < count, add_gradient_of_image, start)
    return tf.cast(total, inputs.dtype)[..., tf.newaxis]
