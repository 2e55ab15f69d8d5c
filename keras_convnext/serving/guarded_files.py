"""Prepares image files in a served graph, so that a bad file costs its own row and no other.

TensorFlow has no operation that decodes an image or gives a default. `tf.data` has: a dataset of
one file that ignores errors is empty if the file cannot be decoded.
"""

from collections.abc import Callable

import tensorflow as tf

from keras_convnext.data.pixels import FORMATS_IN_WORDS
from keras_convnext.data.transforms.file_header import header_of, is_known, pixels_claimed

# Decoded and resized, an image of as many takes some 2 GB.
MAX_PIXELS = 100_000_000
NOT_AN_IMAGE = f"This is not an image in a known format. Images may be {FORMATS_IN_WORDS}."
TOO_LARGE = f"The image has more than {MAX_PIXELS:,} pixels."
DAMAGED = "The image is damaged or cut off."


def prepare_files(
    files: tf.Tensor, prepare: Callable[[tf.Tensor], tf.Tensor], image_shape: tuple[int, int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the prepared images of files, and what is wrong with each.

    Args:
        files: The bytes of image files, `(batch,)`.
        prepare: Decodes and resizes one file, to `float32` of `image_shape`.
        image_shape: `(height, width, channels)`.

    Returns:
        Images `float32` of shape `(batch, *image_shape)`, black where a file is bad; and sentences
        `(batch,)`, empty where it is not.
    """
    image, sentence = tf.TensorSpec(image_shape, tf.float32), tf.TensorSpec((), tf.string)
    return tf.map_fn(
        lambda file: _prepared(file, prepare, image_shape),
        files,
        fn_output_signature=(image, sentence),
    )


def _prepared(file, prepare, image_shape):
    def checked(file):
        # Before anything is allocated for the pixels.
        most = tf.constant(MAX_PIXELS, tf.int64)
        small = tf.debugging.assert_less_equal(pixels_claimed(file), most)
        with tf.control_dependencies([small]):
            return prepare(tf.identity(file)), True

    black = tf.zeros(image_shape), False
    image, is_good = _first(file, checked, black)
    error = tf.cond(is_good, lambda: "", lambda: _reason(file))
    return tf.ensure_shape(image, image_shape), error


def _reason(file):
    """Returns why a file cannot be decoded."""
    pixels = _first(file, pixels_claimed, tf.constant(0, tf.int64))
    return tf.case(
        [
            (~is_known(header_of(file)), lambda: NOT_AN_IMAGE),
            (pixels > MAX_PIXELS, lambda: TOO_LARGE),
        ],
        default=lambda: DAMAGED,
    )


def _first(file, function, default):
    """Returns the function's result for a file, or the default if it fails."""
    results = tf.data.Dataset.from_tensors(file).map(function).ignore_errors()
    otherwise = tf.data.Dataset.from_tensors(default)
    return results.concatenate(otherwise).take(1).get_single_element()


def without_bad_rows(outputs: dict[str, tf.Tensor], errors: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns the outputs, zero or empty in rows that have an error, and the errors."""

    def cleared(output):
        is_good = tf.reshape(errors == "", (-1,) + (1,) * (output.shape.rank - 1))
        return tf.where(is_good, output, tf.zeros((), output.dtype))

    return {name: cleared(output) for name, output in outputs.items()} | {"errors": errors}
