"""Image files to RGB pixels, inside a TensorFlow graph: for tf.data and for served models."""

import tensorflow as tf

FORMATS = "JPEG, PNG, BMP, WebP and GIF"


def decode_rgb(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes one image file to what Pillow's `convert("RGB")` gives.

    Greyscale becomes three equal channels, CMYK is converted, transparency is dropped, 16 bits are
    cut to their upper 8, and of an animation the first frame is taken.

    Args:
        encoded: Scalar string tensor, the file's bytes.

    Returns:
        `uint8` tensor of shape `(height, width, 3)`.

    Raises:
        tf.errors.InvalidArgumentError: If the bytes are no image of a known format.
    """
    image = tf.case(
        [
            (tf.io.is_jpeg(encoded), lambda: _decode_jpeg(encoded)),
            (_is_palette_bmp(encoded), lambda: _decode_palette_bmp(encoded)),
        ],
        default=lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )
    return tf.ensure_shape(image, (None, None, 3))


def _decode_jpeg(encoded):
    # The faster inverse DCT, TensorFlow's default, is up to 4 of 255 away from Pillow's.
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


# The fields of a BMP header: https://learn.microsoft.com/windows/win32/gdi/bitmap-storage.
_PALETTE_AT = 14  # plus the size of the second header, which stands here
_BITS_PER_PIXEL_AT = 28
_COMPRESSION_AT = 30


def _is_palette_bmp(encoded):
    """Whether the file is a BMP of 8 bits per pixel: TensorFlow would take indices for greys."""
    is_bmp = tf.strings.substr(encoded, 0, 2) == b"BM"
    long_enough = tf.strings.length(encoded) >= _COMPRESSION_AT + 4
    return tf.cond(
        is_bmp & long_enough,
        lambda: _integer(encoded, _BITS_PER_PIXEL_AT, tf.uint16) == 8,
        lambda: tf.constant(False),
    )


def _decode_palette_bmp(encoded):
    uncompressed = tf.debugging.Assert(
        _integer(encoded, _COMPRESSION_AT, tf.int32) == 0,
        ["A run-length encoded BMP cannot be read; save it uncompressed or as PNG."],
    )
    with tf.control_dependencies([uncompressed]):
        indices = tf.io.decode_bmp(encoded, channels=3)[..., 0]
    palette_at = _PALETTE_AT + _integer(encoded, _PALETTE_AT, tf.int32)
    pixels_at = _integer(encoded, 10, tf.int32)
    entries = tf.io.decode_raw(
        tf.strings.substr(encoded, palette_at, pixels_at - palette_at), tf.uint8
    )
    blue_green_red = tf.reshape(entries, (-1, 4))[:, :3]
    return tf.gather(blue_green_red[:, ::-1], tf.cast(indices, tf.int32))


def _integer(encoded, position, dtype):
    """Reads one little-endian integer out of a file's bytes."""
    piece = tf.strings.substr(encoded, position, dtype.size)
    return tf.cast(tf.io.decode_raw(piece, dtype)[0], tf.int32)
