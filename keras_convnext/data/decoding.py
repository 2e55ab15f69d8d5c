"""Image files to RGB pixels, inside a TensorFlow graph: for tf.data and for served models."""

from collections.abc import Callable

import tensorflow as tf

FORMATS = "JPEG, PNG, BMP, WebP and GIF"

# From an image's height and width to a part of it: top, left, height and width, `int32`.
Box = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


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


def decode_rgb_part(encoded: tf.Tensor, box: Box | None) -> tf.Tensor:
    """Decodes a part of an image file, to the same bits as `decode_rgb` followed by slicing.

    Of a JPEG only the part is transformed, which takes less time; other formats are decoded whole.

    Args:
        encoded: Scalar string tensor, the file's bytes.
        box: Which part, a function of the image's height and width; `None` for all of it.

    Returns:
        `uint8` tensor of shape `(part's height, part's width, 3)`.

    Raises:
        tf.errors.InvalidArgumentError: If the bytes are no image of a known format. A JPEG's fault
            outside of the part may go unnoticed.
    """
    if box is None:
        return decode_rgb(encoded)
    part = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: _decode_jpeg_part(encoded, box),
        lambda: part_of(decode_rgb(encoded), box),
    )
    return tf.ensure_shape(part, (None, None, 3))


def part_of(image: tf.Tensor, box: Box) -> tf.Tensor:
    """Cuts a part out of a decoded image."""
    shape = tf.shape(image)
    top, left, height, width = tf.unstack(box(shape[0], shape[1]))
    return image[top : top + height, left : left + width]


# The faster inverse DCT, TensorFlow's default, is up to 4 of 255 away from Pillow's.
_DCT_METHOD = "INTEGER_ACCURATE"
# Halved colour is interpolated from neighbours, which a part lacks at its left and right edge; and
# in parts of up to four columns it is not interpolated at all. Rows have their neighbours.
_MARGIN = 2


def _decode_jpeg(encoded):
    return tf.io.decode_jpeg(encoded, channels=3, dct_method=_DCT_METHOD)


def _decode_jpeg_part(encoded, box):
    image_height, image_width, _ = tf.unstack(tf.image.extract_jpeg_shape(encoded))
    top, left, height, width = tf.unstack(box(image_height, image_width))
    start = tf.maximum(left - _MARGIN, 0)
    end = tf.minimum(left + width + _MARGIN, image_width)
    wider = tf.stack([top, start, height, end - start])
    part = tf.image.decode_and_crop_jpeg(encoded, wider, channels=3, dct_method=_DCT_METHOD)
    return part[:, left - start : left - start + width]


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
