"""A convolution of patches for TensorFlow, whose convolution is fast, but not its gradients."""

import tensorflow as tf

from keras_convnext.kernels.patch_conv2d import as_product, reference
from keras_convnext.kernels.shapes import too_small
from keras_convnext.kernels.tensorflow.rows import sizes_of


def patch_conv2d(inputs, kernel, bias, training: bool = False):
    """Same arguments and result as `kernels.patch_conv2d.reference`."""
    inputs = _large_enough(inputs, kernel.shape[0])
    batch = inputs.shape[0]
    if training or batch == 0:
        return as_product(inputs, kernel, bias)
    if batch is not None:
        return reference(inputs, kernel, bias)
    # Of no images, TensorFlow's convolution on CPU gives a result of the images' shape.
    size, sides = kernel.shape[0], sizes_of(inputs)
    outputs = tf.nn.conv2d(inputs, kernel, size, "VALID")
    shape = [sides[0], sides[1] // size, sides[2] // size, kernel.shape[-1]]
    return tf.reshape(outputs, shape) + bias


def _large_enough(inputs, size):
    """Checks the size of images where it is known only when the graph runs."""
    if None not in inputs.shape[1:3]:
        return inputs
    least = tf.reduce_min(tf.shape(inputs)[1:3])
    check = tf.debugging.assert_greater_equal(least, size, too_small(size))
    with tf.control_dependencies([check]):
        return tf.identity(inputs)
