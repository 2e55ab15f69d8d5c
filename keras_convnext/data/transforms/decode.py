"""Image files to RGB pixels, inside a TensorFlow graph: for tf.data and for served models."""

import functools

import tensorflow as tf

from keras_convnext.data.transforms.orientation import (
    Box,
    box_as_stored,
    may_be_turned,
    orientation_of,
    oriented,
)

FORMATS = "JPEG, PNG, BMP, WebP and GIF"


def decode_rgb(encoded: tf.Tensor, apply_orientation: bool = True) -> tf.Tensor:
    """Decodes one image file to what Pillow's `convert("RGB")` gives.

    Greyscale becomes three equal channels, CMYK is converted, transparency is dropped, 16 bits are
    cut to their upper 8, and of an animation the first frame is taken. Two things differ: what is
    transparent in a GIF takes another colour, and BMP files of 1 or 4 bits per pixel or with
    run-length encoding are refused.

    Args:
        encoded: Scalar string tensor, the file's bytes.
        apply_orientation: Whether the image is turned as its EXIF says, which is what Pillow's
            `ImageOps.exif_transpose` does; see `keras_convnext.data.transforms.orientation`.

    Returns:
        `uint8` tensor of shape `(height, width, 3)`.

    Raises:
        tf.errors.InvalidArgumentError: If the bytes are no image of a known format.
    """
    return decode_rgb_part(encoded, None, apply_orientation)


def _decode(encoded, header):
    image = tf.case(
        [
            (tf.io.is_jpeg(encoded), lambda: _decode_jpeg(encoded)),
            (_is_palette_bmp(header), lambda: _decode_palette_bmp(encoded, header)),
            (_is_transparent_webp(header), lambda: _decode_transparent_webp(encoded)),
            (_is_opaque_animation(header), lambda: _decode_opaque_animation(encoded, header)),
        ],
        default=lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )
    return tf.ensure_shape(image, (None, None, 3))


@tf.autograph.experimental.do_not_convert  # there is nothing to convert, and looking takes seconds
def decode_rgb_part(
    encoded: tf.Tensor, box: Box | None, apply_orientation: bool = True
) -> tf.Tensor:
    """Decodes a part of an image file, to the same bits as `decode_rgb` followed by slicing.

    Of a JPEG only the part is transformed, which takes less time; other formats are decoded whole.

    Args:
        encoded: Scalar string tensor, the file's bytes.
        box: Which part, a function of the image's height and width; `None` for all of it.
        apply_orientation: Whether the image is turned as its EXIF says, before the box is asked
            for.

    Returns:
        `uint8` tensor of shape `(part's height, part's width, 3)`.

    Raises:
        tf.errors.InvalidArgumentError: If the bytes are no image of a known format. A JPEG's fault
            outside of the part may go unnoticed.
    """
    if apply_orientation and box is None and tf.executing_eagerly():
        return _decode_traced_once()(encoded)
    header = _header(encoded)

    def decode(box):
        return _decode_part(encoded, header, box)

    if not apply_orientation:
        return decode(box)
    # Not inlined, so that what it consists of takes no time where it is not run.
    turned = tf.function(
        lambda: _turned(encoded, decode, box),
        autograph=False,
        experimental_attributes={"_noinline": True},
    )
    part = tf.cond(may_be_turned(header), turned, lambda: decode(box))
    return tf.ensure_shape(part, (None, None, 3))


@functools.cache
def _decode_traced_once():
    """Returns `decode_rgb` as a graph; called outside of one it would be traced for each image."""
    return tf.function(decode_rgb, input_signature=[tf.TensorSpec((), tf.string)], autograph=False)


def _turned(encoded, decode, box):
    orientation = orientation_of(encoded)
    return oriented(decode(box and box_as_stored(box, orientation)), orientation)


def _decode_part(encoded, header, box):
    if box is None:
        return _decode(encoded, header)
    part = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: _decode_jpeg_part(encoded, box),
        lambda: part_of(_decode(encoded, header), box),
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
_FLAGS_FIELD = 20  # of VP8X
_ALPHA_FIELDS = {b"VP8X": _FLAGS_FIELD, b"VP8L": 24}  # the byte that tells, by the first chunk
_ALPHA_BIT, _ANIMATION_BIT = 0x10, 0x02


def _is_transparent_webp(header):
    """Whether the file is a WebP with transparency: TensorFlow refuses to read three channels.

    The file is asked rather than TensorFlow, whose channels=0 corrupts memory on some animations.
    """
    transparent = tf.constant(False)
    for chunk, field in _ALPHA_FIELDS.items():
        transparent |= _has(header, _CHUNK_FIELD, chunk) & _has_bit(header[field], _ALPHA_BIT)
    return transparent & _is_webp(header)


def _decode_transparent_webp(encoded):
    return tf.io.decode_image(encoded, channels=4, expand_animations=False)[..., :3]


def _is_opaque_animation(header):
    """Whether the file is an animated WebP without transparency.

    TensorFlow refuses it: animations must have four channels, and this file has three.
    """
    is_animated = _has_bit(header[_FLAGS_FIELD], _ANIMATION_BIT)
    is_opaque = ~_has_bit(header[_FLAGS_FIELD], _ALPHA_BIT)
    return _is_webp(header) & _has(header, _CHUNK_FIELD, b"VP8X") & is_animated & is_opaque


def _decode_opaque_animation(encoded, header):
    """Tells TensorFlow that the animation is transparent, of which its pixels know nothing."""
    flags = tf.gather([bytes([value]) for value in range(256)], header[_FLAGS_FIELD] + _ALPHA_BIT)
    before = tf.strings.substr(encoded, 0, _FLAGS_FIELD)
    after = tf.strings.substr(encoded, _FLAGS_FIELD + 1, tf.strings.length(encoded))
    return _decode_transparent_webp(tf.strings.join([before, flags, after]))


def _is_webp(header):
    return _has(header, 0, b"RIFF") & _has(header, 8, b"WEBP")


def _has_bit(value, bit):
    return tf.bitwise.bitwise_and(value, bit) > 0


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
