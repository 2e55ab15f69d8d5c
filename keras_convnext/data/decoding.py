"""Image files to RGB pixels, inside a TensorFlow graph: for tf.data and for served models."""

import tensorflow as tf

FORMATS = "JPEG, PNG, BMP, WebP and GIF"


def decode_rgb(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes one image file to what Pillow's `convert("RGB")` gives.

    Greyscale becomes three equal channels, CMYK is converted, transparency is dropped, 16 bits are
    cut to their upper 8, and of an animation the first frame is taken. Two things differ: what is
    transparent in a GIF takes another colour, and BMP files of 1 or 4 bits per pixel or with
    run-length encoding are refused.

    Args:
        encoded: Scalar string tensor, the file's bytes.

    Returns:
        `uint8` tensor of shape `(height, width, 3)`.

    Raises:
        tf.errors.InvalidArgumentError: If the bytes are no image of a known format.
    """
    header = _header(encoded)
    image = tf.case(
        [
            (tf.io.is_jpeg(encoded), lambda: _decode_jpeg(encoded)),
            (_is_palette_bmp(header), lambda: _decode_palette_bmp(encoded, header)),
            (_is_transparent_webp(header), lambda: _decode_transparent_webp(encoded)),
        ],
        default=lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )
    return tf.ensure_shape(image, (None, None, 3))


def _decode_jpeg(encoded):
    # The faster inverse DCT, TensorFlow's default, is up to 4 of 255 away from Pillow's.
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


# BMP: https://learn.microsoft.com/windows/win32/gdi/bitmap-storage.
_PIXELS_AT_FIELD = 10
_SECOND_HEADER = 14  # starts with its own size
_BITS_PER_PIXEL_FIELD = 28
_COMPRESSION_FIELD = 30


def _is_palette_bmp(header):
    """Whether the file is a BMP of 8 bits per pixel: TensorFlow would take indices for greys."""
    return _has(header, 0, b"BM") & (_integer(header, _BITS_PER_PIXEL_FIELD, size=2) == 8)


def _decode_palette_bmp(encoded, header):
    tf.debugging.assert_equal(
        _integer(header, _COMPRESSION_FIELD, size=4),
        0,
        message="a run-length encoded BMP; save it uncompressed or as PNG",
    )
    indices = tf.io.decode_bmp(encoded, channels=3)[..., 0]
    palette_at = _SECOND_HEADER + _integer(header, _SECOND_HEADER, size=4)
    palette_size = _integer(header, _PIXELS_AT_FIELD, size=4) - palette_at
    palette = tf.io.decode_raw(tf.strings.substr(encoded, palette_at, palette_size), tf.uint8)
    blue_green_red = tf.reshape(palette, (-1, 4))[:, :3]
    return tf.gather(blue_green_red[:, ::-1], tf.cast(indices, tf.int32))


# WebP: https://developers.google.com/speed/webp/docs/riff_container.
_CHUNK_FIELD = 12
_ALPHA_FIELDS = {b"VP8X": 20, b"VP8L": 24}  # the byte that tells, by the name of the first chunk
_ALPHA_BIT = 0x10


def _is_transparent_webp(header):
    """Whether the file is a WebP with transparency: TensorFlow refuses to read three channels.

    The file is asked rather than TensorFlow, whose channels=0 corrupts memory on some animations.
    """
    transparent = tf.constant(False)
    for chunk, field in _ALPHA_FIELDS.items():
        has_bit = tf.bitwise.bitwise_and(header[field], _ALPHA_BIT) > 0
        transparent |= _has(header, _CHUNK_FIELD, chunk) & has_bit
    return transparent & _has(header, 0, b"RIFF") & _has(header, 8, b"WEBP")


def _decode_transparent_webp(encoded):
    return tf.io.decode_image(encoded, channels=4, expand_animations=False)[..., :3]


_HEADER_SIZE = 34


def _header(encoded):
    """Returns the file's first bytes as integers, with zeros where it is shorter."""
    padded = tf.strings.join([tf.strings.substr(encoded, 0, _HEADER_SIZE), b"\0" * _HEADER_SIZE])
    first = tf.strings.substr(padded, 0, _HEADER_SIZE)
    return tf.cast(tf.io.decode_raw(first, tf.uint8), tf.int32)


def _has(header, position, text):
    return tf.reduce_all(header[position : position + len(text)] == list(text))


def _integer(header, position, size):
    """Reads one little-endian integer of `size` bytes."""
    places = [256**place for place in range(size)]
    return tf.reduce_sum(header[position : position + size] * places)
