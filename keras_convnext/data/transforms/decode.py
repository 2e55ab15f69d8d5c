"""Decodes image files to RGB, inside a TensorFlow graph: for tf.data and for served models."""

import functools

import tensorflow as tf

from keras_convnext.data.transforms.file_header import has, has_bit, header_of, integer, is_webp
from keras_convnext.data.transforms.orientation import (
    Box,
    box_as_stored,
    may_be_turned,
    orientation_of,
    oriented,
)


def decode_rgb(encoded: tf.Tensor, apply_orientation: bool = True) -> tf.Tensor:
    """Decodes an image file as Pillow's `convert("RGB")` does.

    Greyscale becomes three equal channels, CMYK is converted, transparency is dropped, 16 bits are
    reduced to the upper 8, and the first frame of an animation is taken. Two things differ:
    transparent pixels of a GIF have another colour, and BMP files of 1 or 4 bits per pixel or with
    run-length encoding are refused.

    Args:
        encoded: Scalar string tensor, the file's bytes.
        apply_orientation: Whether the image is rotated as its EXIF orientation says, as by Pillow's
            `ImageOps.exif_transpose`; see `keras_convnext.data.transforms.orientation`.

    Returns:
        `uint8` tensor of shape `(height, width, 3)`.

    Raises:
        tf.errors.InvalidArgumentError: If the bytes are not an image in a known format.
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


@tf.autograph.experimental.do_not_convert  # it would search for seconds and find nothing
def decode_rgb_part(
    encoded: tf.Tensor, box: Box | None, apply_orientation: bool = True
) -> tf.Tensor:
    """Decodes a part of an image file; the result is the same as slicing that of `decode_rgb`.

    For a JPEG only the part is transformed, which is faster. Other formats are decoded whole.

    Args:
        encoded: Scalar string tensor, the file's bytes.
        box: The part, as a function of the image's height and width; `None` for the whole image.
        apply_orientation: Whether the image is rotated as its EXIF orientation says, before the box
            is evaluated.

    Returns:
        `uint8` tensor of shape `(part's height, part's width, 3)`.

    Raises:
        tf.errors.InvalidArgumentError: If the bytes are not an image in a known format. Damage to a
            JPEG outside of the part may go unnoticed.
    """
    if apply_orientation and box is None and tf.executing_eagerly():
        return _decode_traced_once()(encoded)
    header = header_of(encoded)

    def decode(box):
        return _decode_part(encoded, header, box)

    if not apply_orientation:
        return decode(box)
    # Not inlined, so that its operations cost no time when the branch is not taken.
    turned = tf.function(
        lambda: _turned(encoded, decode, box),
        autograph=False,
        experimental_attributes={"_noinline": True},
    )
    part = tf.cond(may_be_turned(header), turned, lambda: decode(box))
    return tf.ensure_shape(part, (None, None, 3))


@functools.cache
def _decode_traced_once():
    """Returns `decode_rgb` as a graph, since eagerly its branches would be traced on every call."""
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
    """Slices a box out of a decoded image."""
    shape = tf.shape(image)
    top, left, height, width = tf.unstack(box(shape[0], shape[1]))
    return image[top : top + height, left : left + width]


# TensorFlow's default, a faster inverse DCT, differs from Pillow's by up to 4 of 255.
_DCT_METHOD = "INTEGER_ACCURATE"
# Subsampled colour is interpolated from neighbouring columns, which a part lacks at its left and
# right edges. In parts of up to four columns it is not interpolated at all. Rows are not affected.
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
_SECOND_HEADER = 14  # begins with its own size
_BITS_PER_PIXEL_FIELD = 28
_COMPRESSION_FIELD = 30


def _is_palette_bmp(header):
    """Returns whether the file is a BMP of 8 bits per pixel, whose palette TensorFlow ignores."""
    return has(header, 0, b"BM") & (integer(header, _BITS_PER_PIXEL_FIELD, size=2) == 8)


def _decode_palette_bmp(encoded, header):
    tf.debugging.assert_equal(
        integer(header, _COMPRESSION_FIELD, size=4),
        0,
        message="a run-length encoded BMP; save it uncompressed or as PNG",
    )
    indices = tf.io.decode_bmp(encoded, channels=3)[..., 0]
    palette_at = _SECOND_HEADER + integer(header, _SECOND_HEADER, size=4)
    palette_size = integer(header, _PIXELS_AT_FIELD, size=4) - palette_at
    palette = tf.io.decode_raw(tf.strings.substr(encoded, palette_at, palette_size), tf.uint8)
    blue_green_red = tf.reshape(palette, (-1, 4))[:, :3]
    return tf.gather(blue_green_red[:, ::-1], tf.cast(indices, tf.int32))


# WebP: https://developers.google.com/speed/webp/docs/riff_container.
_CHUNK_FIELD = 12
_FLAGS_FIELD = 20  # of VP8X
_ALPHA_FIELDS = {
    b"VP8X": _FLAGS_FIELD,
    b"VP8L": 24,
}  # the byte with the alpha bit, by the first chunk
_ALPHA_BIT, _ANIMATION_BIT = 0x10, 0x02


def _is_transparent_webp(header):
    """Returns whether the file is a WebP with transparency, of which TensorFlow needs 4 channels.

    The file's header is read, since TensorFlow's channels=0 corrupts memory on some animations.
    """
    transparent = tf.constant(False)
    for chunk, field in _ALPHA_FIELDS.items():
        transparent |= has(header, _CHUNK_FIELD, chunk) & has_bit(header[field], _ALPHA_BIT)
    return transparent & is_webp(header)


def _decode_transparent_webp(encoded):
    return tf.io.decode_image(encoded, channels=4, expand_animations=False)[..., :3]


def _is_opaque_animation(header):
    """Returns whether the file is an animated WebP without transparency.

    TensorFlow refuses it, since it reads animations with four channels only.
    """
    is_animated = has_bit(header[_FLAGS_FIELD], _ANIMATION_BIT)
    is_opaque = ~has_bit(header[_FLAGS_FIELD], _ALPHA_BIT)
    return is_webp(header) & has(header, _CHUNK_FIELD, b"VP8X") & is_animated & is_opaque


def _decode_opaque_animation(encoded, header):
    """Decodes the file with the transparency bit set, which does not change its pixels."""
    flags = tf.gather([bytes([value]) for value in range(256)], header[_FLAGS_FIELD] + _ALPHA_BIT)
    before = tf.strings.substr(encoded, 0, _FLAGS_FIELD)
    after = tf.strings.substr(encoded, _FLAGS_FIELD + 1, tf.strings.length(encoded))
    return _decode_transparent_webp(tf.strings.join([before, flags, after]))
