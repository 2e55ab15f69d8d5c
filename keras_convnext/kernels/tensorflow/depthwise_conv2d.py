"""Depthwise convolution for TensorFlow on CPU, whose gradient of the kernel is slow.

That gradient is a depthwise convolution too: of every image, with that image's output gradient as a
kernel of the image's size. It takes a third to a fifteenth of the time of TensorFlow's own.
"""

import tensorflow as tf

from keras_convnext.kernels.depthwise_conv2d import LEAST_VALUES_OF_AN_IMAGE, reference
from keras_convnext.kernels.tensorflow.rows import rows_of, sizes_of
from keras_convnext.kernels.tensorflow.sums import exact, sum_of_rows


def depthwise_conv2d(inputs, kernel, bias=None, training: bool = False):
    """Same arguments and result as `kernels.depthwise_conv2d`."""
    values = inputs.shape[1:].num_elements()  # `None` where a size is open
    if not training or values is None or values < LEAST_VALUES_OF_AN_IMAGE:
        return reference(inputs, kernel, bias)
    return _with_own_gradients(inputs, kernel, *([] if bias is None else [bias]))


@tf.custom_gradient
def _with_own_gradients(inputs, kernel, bias=None):
    def gradients(output_gradient):
        turned_around = tf.reverse(kernel, axis=(0, 1))
        of_bias = [] if bias is None else [sum_of_rows(rows_of(output_gradient))]
        return (
            _convolve(output_gradient, turned_around, "SAME"),
            _kernel_gradient(inputs, output_gradient, kernel.shape),
            *of_bias,
        )

    outputs = _convolve(inputs, kernel, "SAME")
    return outputs if bias is None else tf.nn.bias_add(outputs, bias), gradients


def _convolve(inputs, kernel, padding):
    return tf.nn.depthwise_conv2d(inputs, kernel, (1, 1, 1, 1), padding)


def _kernel_gradient(inputs, output_gradient, shape):
    rows, columns, channels, _ = shape
    padding = ((0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0))

    def add_gradient_of_image(number, total):
        image = tf.pad(inputs[number : number + 1], padding)
        taps = _convolve(image, tf.expand_dims(output_gradient[number], axis=-1), "VALID")
        return number + 1, total + tf.cast(taps[0], total.dtype)

    count = sizes_of(inputs)[0]
    start = tf.constant(0), tf.zeros((rows, columns, channels), exact(inputs))
    _, total = tf.while_loop(lambda number, _: number < count, add_gradient_of_image, start)
    return tf.expand_dims(tf.cast(total, inputs.dtype), axis=-1)
