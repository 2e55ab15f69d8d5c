"""Turns RGB images grey, inside a TensorFlow graph."""

import tensorflow as tf

# Pillow's ITU-R 601-2 luma: the weights of red, green and blue in 65536ths.
_LUMA = (19595, 38470, 7471)


def in_channels(image: tf.Tensor, channels: int) -> tf.Tensor:
    """Converts RGB to grey if `channels` is 1, as Pillow's `convert("L")` does.

    Args:
        image: `uint8` tensor of shape `(height, width, 3)`.
        channels: 3 or 1.

    Returns:
        `uint8` tensor of shape `(height, width, channels)`.
    """
    if channels == 3:
        return image
    weighted = tf.cast(image, tf.int32) * tf.constant(_LUMA)
    luma = (tf.reduce_sum(weighted, axis=-1, keepdims=True) + 2**15) // 2**16
    return tf.cast(luma, tf.uint8)
