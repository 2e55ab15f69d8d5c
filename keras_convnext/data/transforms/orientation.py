"""Reads the EXIF orientation of an image file and applies it, inside a TensorFlow graph.

Cameras store pixels in the order of the sensor, and record in EXIF, a small TIFF file, how to
rotate them. The result is that of Pillow's `ImageOps.exif_transpose`. Only plain TensorFlow
operations are used, so that a served model can contain them. An orientation that cannot be read is
taken as upright and is never an error.

EXIF is read from a JPEG's segments before its coding tables, from a PNG's chunks before its pixels,
and from any chunk of a WebP. Not read are other places where Pillow looks: XMP, segments between a
JPEG's tables, and chunks of a PNG that come after its pixels or are text.

Sources: CIPA DC-008 (EXIF), TIFF 6.0, and the specifications of JPEG, PNG and WebP.
"""

from collections.abc import Callable

import tensorflow as tf

# A function from an image's height and width to a box in it: top, left, height and width, `int32`.
Box = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

UPRIGHT = 1
# EXIF's numbers. From 5 on, the image is transposed before it is mirrored.
FIRST_TRANSPOSED = 5
MIRRORED_LEFT_TO_RIGHT = (2, 3, 6, 7)
MIRRORED_TOP_TO_BOTTOM = (3, 4, 7, 8)
MAX_PARTS = 1024  # segments or chunks that are searched; a JPEG's colour profile has up to 255


def may_be_turned(header: tf.Tensor) -> tf.Tensor:
    """Returns whether a file may have EXIF, so that it must be searched, which takes longer.

    Args:
        header: The file's first 22 bytes at least, as integers.
    """
    kind = header[0]
    first, second = tf.gather(_MAY_HOLD_EXIF, header[3]), tf.gather(_MAY_HOLD_EXIF, header[21])
    # Most files without EXIF begin with a JFIF segment of 16 bytes.
    is_jfif = tf.reduce_all(header[2:6] == list(b"\xff\xe0\0\x10"))
    in_jpeg = (kind == 0xFF) & first & (second | ~is_jfif)
    return in_jpeg | (kind == b"\x89PNG"[0]) | (kind == b"RIFF"[0])


def orientation_of(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the EXIF orientation of an image file, from 1 (upright) to 8.

    Args:
        encoded: Scalar string tensor, the file's bytes.

    Returns:
        `int32` scalar.
    """
    first = _words(encoded, 0, tf.int32, 6)
    is_png = first[0] == _signed(b"\x89PNG")
    has_exif = tf.bitwise.bitwise_and(first[5], 0x08000000) > 0
    is_webp = (first[0] == _signed(b"RIFF")) & (first[3] == _signed(b"VP8X")) & has_exif
    start, length = tf.case(
        [
            (tf.io.is_jpeg(encoded), lambda: _exif_of_jpeg(encoded)),
            (is_png, lambda: _exif_of_png(encoded)),
            (is_webp, lambda: _exif_of_webp(encoded)),
        ],
        default=_nowhere,
    )
    upright = tf.constant(UPRIGHT)
    return tf.cond(length > 0, lambda: _orientation_in(encoded, start, length), lambda: upright)


def oriented(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Applies an orientation to an image of shape `(height, width, 3)`."""
    return tf.cond(orientation == UPRIGHT, lambda: image, lambda: _turned(image, orientation))


def _turned(image, orientation):
    transposed = orientation >= FIRST_TRANSPOSED
    image = tf.cond(transposed, lambda: _transpose(image), lambda: image)
    image = tf.cond(
        _is_one_of(orientation, MIRRORED_LEFT_TO_RIGHT),
        lambda: tf.reverse(image, [1]),
        lambda: image,
    )
    return tf.cond(
        _is_one_of(orientation, MIRRORED_TOP_TO_BOTTOM),
        lambda: tf.reverse(image, [0]),
        lambda: image,
    )


def _transpose(image):
    # A pixel is moved as one float32, which is a normal number with 63 as its last byte. TensorFlow
    # warns when it transposes other types on processors without AVX-512.
    padded = tf.pad(image, ((0, 0), (0, 0), (0, 1)), constant_values=63)
    pixels = tf.transpose(tf.bitcast(padded, tf.float32))
    return tf.bitcast(pixels, tf.uint8)[..., :3]


def box_as_stored(box: Box, orientation: tf.Tensor) -> Box:
    """Converts a box in the oriented image to the box in the stored image."""

    def stored(height, width):
        transposed = orientation >= FIRST_TRANSPOSED
        turned_height = tf.where(transposed, width, height)
        turned_width = tf.where(transposed, height, width)
        top, left, rows, columns = tf.unstack(box(turned_height, turned_width))
        from_right = _is_one_of(orientation, MIRRORED_LEFT_TO_RIGHT)
        from_bottom = _is_one_of(orientation, MIRRORED_TOP_TO_BOTTOM)
        left = tf.where(from_right, turned_width - left - columns, left)
        top = tf.where(from_bottom, turned_height - top - rows, top)
        as_turned = tf.stack([top, left, rows, columns])
        return tf.where(transposed, tf.gather(as_turned, [1, 0, 3, 2]), as_turned)

    return stored


def _is_one_of(orientation, numbers):
    return tf.reduce_any(orientation == tf.constant(numbers))


# The functions below return the start and the length of EXIF in a file, `int64`; length 0 for none.


def _nowhere():
    return tf.constant(0, tf.int64), tf.constant(0, tf.int64)


EXIF_SEGMENT = b"\xff\xe1", b"Exif\0\0"  # its marker; and, after the length, its name, unlike XMP's
FILL = 0xFF
# By the second byte of a JPEG's marker: whether EXIF may be in this segment or in a later one.
_MAY_HOLD_EXIF = [0xE0 <= byte <= 0xEF or byte in (0xFE, FILL) for byte in range(256)]


def _exif_of_jpeg(encoded):
    def words_at(position):  # marker, length and the next six bytes
        return _words(encoded, position, tf.uint16, 5)

    def is_exif(words):
        marker, name = EXIF_SEGMENT
        expected = [*_sixteen_bits(marker), *_sixteen_bits(name)]
        return tf.reduce_all(tf.gather(words, [0, 2, 3, 4]) == expected)

    def searching(position, words):
        is_marker = words[0] >= 0xFF00
        return is_marker & tf.gather(_MAY_HOLD_EXIF, words[0] % 256) & ~is_exif(words)

    def step(position, words):
        size = tf.where(words[0] % 256 == FILL, 1, 2 + words[1])
        after = position + tf.cast(size, tf.int64)
        return after, words_at(after)

    position, words = _walk(searching, step, tf.constant(2, tf.int64), words_at)
    length = tf.where(is_exif(words), words[1] - 2, 0)
    return position + 4, tf.cast(length, tf.int64)


def _exif_of_png(encoded):
    def words_at(position):  # length and type
        return _words(encoded, position, tf.int32, 2)

    def searching(position, words):
        ends = [_signed(b"eXIf"), _signed(b"IDAT"), _signed(b"IEND"), 0]
        return ~_is_one_of(words[1], ends) & (words[0] >= 0)

    def step(position, words):
        after = position + 12 + tf.cast(words[0], tf.int64)
        return after, words_at(after)

    position, words = _walk(searching, step, tf.constant(8, tf.int64), words_at)
    return position + 8, _length_if(words[1] == _signed(b"eXIf"), words[0])


def _exif_of_webp(encoded):
    def words_at(position):  # type and length
        return _words(encoded, position, tf.int32, 2, little_endian=True)

    def searching(position, words):
        ends = [_signed(b"EXIF", "little"), 0]
        return ~_is_one_of(words[0], ends) & (words[1] >= 0)

    def step(position, words):
        after = position + 8 + tf.cast(words[1] + words[1] % 2, tf.int64)
        return after, words_at(after)

    position, words = _walk(searching, step, tf.constant(12, tf.int64), words_at)
    return position + 8, _length_if(words[0] == _signed(b"EXIF", "little"), words[1])


def _walk(searching, step, start, words_at):
    return tf.while_loop(searching, step, (start, words_at(start)), maximum_iterations=MAX_PARTS)


def _length_if(found, length):
    return tf.cast(tf.where(found, length, 0), tf.int64)


ORIENTATION_TAG = 0x0112
# Number of bytes of an integer, by TIFF's numbers for types.
SIZES = {3: 2, 4: 4, 6: 1, 8: 2, 9: 4}


def _orientation_in(encoded, start, length):
    """Reads the orientation from the first directory of EXIF."""
    tiff = _part(encoded, start, length)
    tiff = tf.cond(_part(tiff, 0, 6) == b"Exif\0\0", lambda: _part(tiff, 6, length), lambda: tiff)
    header = _bytes(tiff, 0, 8)
    is_little = tf.reduce_all(header[:2] == list(b"II"))
    is_tiff = (is_little | tf.reduce_all(header[:2] == list(b"MM"))) & (
        tf.reduce_all(header[2:4] == [0, 42]) | tf.reduce_all(header[2:4] == [42, 0])
    )

    def number(values):
        size = values.shape[-1]
        little = [256**place for place in range(size)]
        places = tf.where(is_little, tf.constant(little, tf.int64), little[::-1])
        return tf.reduce_sum(values * places, axis=-1)

    directory = number(header[4:8])
    fits = tf.maximum((_length_of(tiff) - directory - 2) // 12, 0)
    count = tf.minimum(number(_bytes(tiff, directory, 2)), fits)
    entries = tf.reshape(
        tf.cast(tf.io.decode_raw(_part(tiff, directory + 2, 12 * count), tf.uint8), tf.int64),
        (-1, 12),
    )
    # An empty entry first, in case there is none.
    entries = tf.concat([tf.zeros((1, 12), tf.int64), entries], axis=0)
    sizes = _sizes_of(number(entries[:, 2:4]))
    found = (number(entries[:, :2]) == ORIENTATION_TAG) & (sizes > 0)
    last = tf.reduce_max(tf.where(found, tf.range(tf.size(found)), 0))
    entry, size = entries[last], sizes[last]
    value = tf.where(
        size == 1, entry[8], tf.where(size == 2, number(entry[8:10]), number(entry[8:12]))
    )
    is_known = (number(entry[4:8]) == 1) & (value >= 1) & (value <= 8)
    return tf.cast(tf.where(is_tiff & is_known, value, UPRIGHT), tf.int32)


def _sizes_of(types):
    sizes = [SIZES.get(number, 0) for number in range(max(SIZES) + 2)]
    return tf.gather(sizes, tf.minimum(types, len(sizes) - 1))


def _part(text, start, length):
    """Returns a slice of a string, shorter if the string ends before."""
    start = tf.minimum(tf.cast(start, tf.int64), _length_of(text))
    return tf.strings.substr(text, start, tf.cast(length, tf.int64))


def _length_of(text):
    return tf.cast(tf.strings.length(text), tf.int64)


def _bytes(text, start, count):
    """Returns bytes as `int64`, with zeros after the end."""
    part = tf.io.decode_raw(_part(text, start, count), tf.uint8, fixed_length=count)
    return tf.cast(part, tf.int64)


def _words(text, start, dtype, count, little_endian=False):
    """Returns numbers of 16 or 32 bits as `int32`, with zeros after the end."""
    size = count * dtype.size
    words = tf.io.decode_raw(
        _part(text, start, size), dtype, little_endian=little_endian, fixed_length=size
    )
    return tf.cast(tf.ensure_shape(words, (count,)), tf.int32)


def _sixteen_bits(text):
    return [int.from_bytes(text[at : at + 2], "big") for at in range(0, len(text), 2)]


def _signed(text, order="big"):
    return int.from_bytes(text, order, signed=True)
