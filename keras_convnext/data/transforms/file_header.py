"""Reads the first bytes of an image file, inside a TensorFlow graph: its format and its size.

Sources: the specifications of PNG, GIF, BMP and WebP.
"""

import tensorflow as tf

HEADER_SIZE = 34


def header_of(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the file's first bytes as `int32`, padded with zeros, of shape `(34,)`."""
    padded = tf.strings.join([tf.strings.substr(encoded, 0, HEADER_SIZE), b"\0" * HEADER_SIZE])
    first = tf.strings.substr(padded, 0, HEADER_SIZE)
    return tf.ensure_shape(tf.cast(tf.io.decode_raw(first, tf.uint8), tf.int32), (HEADER_SIZE,))


def has(header: tf.Tensor, position: int, text: bytes) -> tf.Tensor:
    """Returns whether a text is at a position of the header."""
    return tf.reduce_all(header[position : position + len(text)] == list(text))


def has_bit(value: tf.Tensor, bit: int) -> tf.Tensor:
    """Returns whether a bit of a byte is set."""
    return tf.bitwise.bitwise_and(value, bit) > 0


def integer(header: tf.Tensor, position: int, size: int) -> tf.Tensor:
    """Reads one little-endian integer of `size` bytes."""
    places = [256**place for place in range(size)]
    return tf.reduce_sum(header[position : position + size] * places)


def is_webp(header: tf.Tensor) -> tf.Tensor:
    """Returns whether the file is a WebP."""
    return has(header, 0, b"RIFF") & has(header, 8, b"WEBP")


def is_known(header: tf.Tensor) -> tf.Tensor:
    """Returns whether the file begins as one of the formats that TensorFlow decodes."""
    signatures = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM")
    found = is_webp(header)
    for signature in signatures:
        found |= has(header, 0, signature)
    return found


def pixels_claimed(encoded: tf.Tensor) -> tf.Tensor:
    """Returns width times height as the file's header gives them, before anything is decoded.

    Args:
        encoded: Scalar string tensor, the bytes of a file of a known format.

    Returns:
        An `int64` scalar.

    Raises:
        tf.errors.InvalidArgumentError: If a JPEG's header is damaged.
    """
    header = header_of(encoded)
    sides = tf.case(
        [
            (tf.io.is_jpeg(encoded), lambda: tf.image.extract_jpeg_shape(encoded, tf.int64)[:2]),
            (has(header, 0, b"\x89PNG"), lambda: _sides(header, (16, 20), 4, is_little=False)),
            (has(header, 0, b"GIF8"), lambda: _sides(header, (6, 8), 2)),
            (has(header, 0, b"BM"), lambda: _sides(header, (18, 22), 4)),
            (has(header, 12, b"VP8X"), lambda: _sides(header, (24, 27), 3) + 1),
            (has(header, 12, b"VP8L"), lambda: _sides_of_lossless_webp(header)),
        ],
        default=lambda: _sides(header, (26, 28), 2) % 2**14,  # a lossy WebP
    )
    return tf.reduce_prod(tf.abs(sides))  # a BMP from top to bottom has a negative height


def _sides(header, positions, size, is_little=True):
    places = [256**place for place in range(size)]
    weights = tf.constant(places if is_little else places[::-1], tf.int64)
    fields = [tf.cast(header[at : at + size], tf.int64) for at in positions]
    sides = tf.stack([tf.reduce_sum(field * weights) for field in fields])
    return (
        tf.where(sides >= 2 ** (8 * size - 1), sides - 2 ** (8 * size), sides)
        if size == 4
        else sides
    )


def _sides_of_lossless_webp(header):
    bits = tf.cast(integer(header, 21, 3), tf.int64) + tf.cast(header[24], tf.int64) * 2**24
    return tf.stack([bits % 2**14, bits // 2**14 % 2**14]) + 1
