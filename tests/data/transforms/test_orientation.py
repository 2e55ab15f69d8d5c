"""What EXIF says has to have the effect of Pillow's `exif_transpose`, to the last bit."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image

from keras_convnext.data.preprocessor import Preprocessor
from keras_convnext.data.transforms.decode import decode_rgb, decode_rgb_part
from keras_convnext.data.transforms.orientation import orientation_of

pytestmark = pytest.mark.backend_free

PHOTO = Image.fromarray(load_sample_image("flower.jpg")).crop((150, 90, 217, 133))
ORIENTATION = 0x0112
file_spec = tf.TensorSpec((), tf.string)
decode = tf.function(decode_rgb, input_signature=[file_spec])
orientation = tf.function(orientation_of, input_signature=[file_spec])


@tf.function(input_signature=[file_spec, tf.TensorSpec((4,), tf.int32)])
def decode_part(encoded, box):
    return decode_rgb_part(encoded, lambda height, width: box)


def file_of(format, exif=b"", **options):
    file = io.BytesIO()
    lossless = {"lossless": True} if format == "WEBP" else {}
    PHOTO.save(file, format, exif=exif, **lossless, **options)
    return file.getvalue()


def exif_of(number, order="<", kind=3, count=1, before=((0x010F, 2, 4, b"me\0\0"),)):
    """Writes EXIF of one directory by hand."""
    value = number if isinstance(number, bytes) else struct.pack(f"{order}HH", number, 0)
    entries = [*before, (ORIENTATION, kind, count, value)]
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, len(entries))
    rows = [struct.pack(f"{order}HHI", *entry[:3]) + entry[3] for entry in entries]
    return b"Exif\0\0" + start + b"".join(rows) + bytes(4)


def with_pillow(encoded):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB"))


@pytest.mark.parametrize("order", ["<", ">"], ids=["little-endian", "big-endian"])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_an_image_is_turned_as_pillow_turns_it(format, order):
    for number in range(1, 9):
        encoded = file_of(format, exif_of(number, order))
        assert int(orientation(encoded)) == number
        np.testing.assert_array_equal(decode(encoded), with_pillow(encoded))
        as_stored = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
        np.testing.assert_array_equal(decode_rgb(encoded, apply_orientation=False), as_stored)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_part_is_that_of_the_turned_image(format):
    for number in range(1, 9):
        encoded = file_of(format, exif_of(number))
        whole = with_pillow(encoded)
        height, width, _ = whole.shape
        boxes = [(0, 0, height, width), (3, 5, 20, 11), (height - 7, 1, 7, 9), (9, width - 1, 2, 1)]
        for top, left, rows, columns in boxes:
            part = decode_part(encoded, (top, left, rows, columns))
            np.testing.assert_array_equal(part, whole[top : top + rows, left : left + columns])


def segment(marker, contents):
    return bytes([0xFF, marker]) + struct.pack(">H", len(contents) + 2) + contents


PLAIN = file_of("JPEG")
JFIF_END = 20
SIX = segment(0xE1, exif_of(6))
XMP = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>")
PROFILE = segment(0xE2, b"ICC_PROFILE\0" + bytes(60_000))
PLACES = {
    "without JFIF": PLAIN[:2] + SIX + PLAIN[JFIF_END:],
    "before JFIF": PLAIN[:2] + SIX + PLAIN[2:],
    "after XMP": PLAIN[:JFIF_END] + XMP + SIX + PLAIN[JFIF_END:],
    "after a profile": PLAIN[:2] + PROFILE * 3 + SIX + PLAIN[JFIF_END:],
    "after a remark": PLAIN[:JFIF_END] + segment(0xFE, b"by hand") + SIX + PLAIN[JFIF_END:],
    "after filling": PLAIN[:JFIF_END] + b"\xff\xff\xff" + SIX + PLAIN[JFIF_END:],
}


@pytest.mark.parametrize("place", PLACES)
def test_exif_may_be_among_other_segments(place):
    np.testing.assert_array_equal(decode(PLACES[place]), with_pillow(PLACES[place]))
    assert decode(PLACES[place]).shape == (67, 43, 3)


@pytest.mark.parametrize(
    ("kind", "value"), [(6, b"\6\0\0\0"), (3, b"\6\0\0\0"), (4, b"\6\0\0\0"), (9, b"\6\0\0\0")]
)
def test_the_number_may_be_of_any_size(kind, value):
    encoded = file_of("JPEG", exif_of(value, kind=kind))
    np.testing.assert_array_equal(decode(encoded), with_pillow(encoded))
    assert int(orientation(encoded)) == 6


WHOLE = exif_of(6)
HARMED = {
    "empty": b"Exif\0\0",
    "cut in the header": WHOLE[:11],
    "cut before the entry": WHOLE[: 6 + 10 + 12],
    "cut in the entry": WHOLE[: 6 + 10 + 12 + 9],
    "a directory beyond the end": WHOLE[:10] + b"\xff\xff\xff\xff" + WHOLE[14:],
    "a directory at its own start": WHOLE[:10] + bytes(4) + WHOLE[14:],
    "no TIFF": b"Exif\0\0XX" + WHOLE[8:],
    "no entries": WHOLE[:14] + bytes(2) + WHOLE[16:],
    "no orientation": exif_of(6).replace(b"\x12\x01", b"\x13\x01"),
    "0": exif_of(0),
    "9": exif_of(9),
    "65535": exif_of(65535),
    "two numbers": exif_of(6, count=2),
    "a byte": exif_of(b"\6\0\0\0", kind=1),
    "a text": exif_of(b"6\0\0\0", kind=2),
    "no type of TIFF": exif_of(6, kind=99),
}


@pytest.mark.parametrize("harm", HARMED)
@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_exif_that_says_nothing_means_upright(format, harm):
    encoded = file_of(format, HARMED[harm])
    assert int(orientation(encoded)) == 1
    as_stored = decode_rgb(encoded, apply_orientation=False)
    np.testing.assert_array_equal(decode(encoded), as_stored)


def test_more_entries_than_there_are_do_no_harm():
    exif = bytearray(exif_of(8))
    exif[14:16] = b"\xff\xff"
    assert int(orientation(file_of("JPEG", bytes(exif)))) == 8


@pytest.mark.parametrize(
    "text", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe1", b"\x89PNG", b"RIFF", b"BM"]
)
def test_what_is_no_image_is_upright(text):
    assert int(orientation(text)) == 1
    assert int(orientation(text + bytes(40))) == 1
    assert int(orientation(text + b"\xff" * 5000)) == 1


@pytest.mark.parametrize("apply_orientation", [True, False])
def test_the_preprocessor_has_the_switch(tmp_path, apply_orientation):
    (tmp_path / "1.jpg").write_bytes(file_of("JPEG", exif_of(3)))
    prepared = Preprocessor(32, 1.0, apply_orientation=apply_orientation)(tmp_path / "1.jpg")
    as_stored = np.asarray(Image.open(tmp_path / "1.jpg"))
    pixels = as_stored[::-1, ::-1] if apply_orientation else as_stored
    np.testing.assert_array_equal(prepared, Preprocessor(32, 1.0)(pixels.copy()))
