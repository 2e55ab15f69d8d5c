"""What TensorFlow decodes has to be what Pillow decodes, to the last bit."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_image

from keras_convnext.data.transforms.decode import decode_rgb, decode_rgb_part

pytestmark = pytest.mark.backend_free

# Traced once; every file goes through the same graph, as in a pipeline or a served model.
decode_in_graph = tf.function(decode_rgb, input_signature=[tf.TensorSpec((), tf.string)])

# Odd sides, so that halved chroma and padded rows have a remainder.
PHOTO = Image.fromarray(load_sample_image("china.jpg")).crop((200, 100, 283, 161))
FLIPPED = PHOTO.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
GREY = PHOTO.convert("L")
RGBA = PHOTO.copy()
RGBA.putalpha(GREY)
PALETTE = PHOTO.quantize(256)
FEW_COLOURS = PHOTO.quantize(16)
SIXTEEN_BITS = np.asarray(GREY).astype("uint16") * 251 + 5


def file_of(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def with_pillow(encoded):
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


FILES = {
    "jpeg": file_of(PHOTO, "JPEG"),
    "jpeg full chroma": file_of(PHOTO, "JPEG", quality=95, subsampling=0),
    "jpeg half chroma": file_of(PHOTO, "JPEG", subsampling=1),
    "jpeg quarter chroma": file_of(PHOTO, "JPEG", quality=30, subsampling=2),
    "jpeg grey": file_of(GREY, "JPEG"),
    "jpeg cmyk": file_of(PHOTO.convert("CMYK"), "JPEG"),
    "jpeg progressive": file_of(PHOTO, "JPEG", progressive=True),
    "png": file_of(PHOTO, "PNG"),
    "png grey": file_of(GREY, "PNG"),
    "png grey alpha": file_of(Image.merge("LA", (GREY, GREY)), "PNG"),
    "png alpha": file_of(RGBA, "PNG"),
    "png palette": file_of(PALETTE, "PNG"),
    "png palette transparent": file_of(PALETTE, "PNG", transparency=3),
    "png few colours": file_of(FEW_COLOURS, "PNG"),
    "png 1 bit": file_of(PHOTO.convert("1"), "PNG"),
    "bmp 24 bits": file_of(PHOTO, "BMP"),
    "bmp grey": file_of(GREY, "BMP"),
    "bmp palette": file_of(PALETTE, "BMP"),
    "bmp few colours": file_of(FEW_COLOURS, "BMP"),
    "bmp 32 bits": file_of(RGBA, "BMP"),
    "webp": file_of(PHOTO, "WEBP", quality=80),
    "webp lossless": file_of(PHOTO, "WEBP", lossless=True),
    "webp alpha": file_of(RGBA, "WEBP", quality=80),
    "webp lossless alpha": file_of(RGBA, "WEBP", lossless=True, exact=True),
    "webp animation": file_of(
        PHOTO, "WEBP", lossless=True, save_all=True, append_images=[PHOTO.rotate(180)]
    ),
    "webp opaque animation": file_of(
        PHOTO, "WEBP", lossless=True, save_all=True, append_images=[FLIPPED], duration=90
    ),
    "webp lossy animation": file_of(
        PHOTO, "WEBP", quality=70, save_all=True, append_images=[FLIPPED, PHOTO], minimize_size=True
    ),
    "gif": file_of(PALETTE, "GIF"),
    "gif animation": file_of(
        PALETTE, "GIF", save_all=True, append_images=[PALETTE.transpose(Image.Transpose.ROTATE_180)]
    ),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("decode", [decode_rgb, decode_in_graph], ids=["eager", "graph"])
def test_decodes_as_pillow(decode, name):
    decoded = decode(tf.constant(FILES[name])).numpy()
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, with_pillow(FILES[name]))


@tf.function(input_signature=[tf.TensorSpec((), tf.string), tf.TensorSpec((4,), tf.int32)])
def decode_part(encoded, box):
    return decode_rgb_part(encoded, lambda height, width: box)


@pytest.mark.parametrize("size", [(83, 61), (33, 16), (17, 3), (1, 1)], ids=str)
@pytest.mark.parametrize(
    "name", [name for name in FILES if "webp" not in name or "anim" not in name]
)
def test_a_part_is_that_part_of_the_whole(name, size):
    image = Image.open(io.BytesIO(FILES[name]))
    options = {"lossless": True, "exact": True} if "lossless" in name else {}
    subsampling = {"full": 0, "half": 1, "quarter": 2}
    if "jpeg" in name:
        words = name.split()
        options["subsampling"] = subsampling.get(words[1] if words[1:] else "", 2)
        options["progressive"] = "progressive" in name
    encoded = file_of(image.resize(size), image.format, **options)
    whole = with_pillow(encoded)
    for top, left, height, width in boxes_in(*whole.shape[:2]):
        part = decode_part(encoded, (top, left, height, width)).numpy()
        np.testing.assert_array_equal(part, whole[top : top + height, left : left + width])


def boxes_in(height, width):
    """Some boxes anywhere, many at edges, at those of blocks, or narrow; and the whole."""
    random = np.random.default_rng(0)
    yield 0, 0, height, width
    for number in range(60):
        sides = random.integers(1, (height + 1, width + 1))
        if number % 3 == 0:
            sides[1] = min(sides[1], 1 + number % 5)
        places = random.integers(0, (height, width) - sides + 1)
        if number % 2 == 0:
            places = places // 8 * 8
        yield *places, *sides


def test_the_box_is_chosen_by_the_height_and_the_width():
    part = decode_rgb_part(
        tf.constant(FILES["jpeg"]), lambda height, width: tf.stack([height - 3, width - 5, 3, 5])
    )
    np.testing.assert_array_equal(part, with_pillow(FILES["jpeg"])[-3:, -5:])


@pytest.mark.parametrize("decode", [decode_rgb, decode_in_graph], ids=["eager", "graph"])
def test_sixteen_bits_are_cut_to_their_upper_eight(decode):
    # Pillow clips here instead: its own RGB of this file is almost white.
    decoded = decode(tf.constant(file_of(Image.fromarray(SIXTEEN_BITS), "PNG"))).numpy()
    upper = (SIXTEEN_BITS >> 8).astype("uint8")
    np.testing.assert_array_equal(decoded, np.repeat(upper[..., None], 3, axis=-1))


def test_the_shape_is_known_inside_a_graph():
    for decode in (decode_in_graph, decode_part):
        assert decode.get_concrete_function().structured_outputs.shape == (None, None, 3)


BAD_FILES = {
    "garbage": bytes(range(256)),
    "nothing": b"",
    "web page": b"<!DOCTYPE html><html><body>404</body></html>",
    "jpeg cut": FILES["jpeg"][: len(FILES["jpeg"]) // 2],
    "jpeg without its last byte": FILES["jpeg"][:-2],
    "jpeg header": FILES["jpeg"][:3],
    "png cut": FILES["png"][: len(FILES["png"]) // 2],
    "png header": FILES["png"][:8],
    "bmp cut": FILES["bmp 24 bits"][:900],
    "bmp palette cut": FILES["bmp palette"][:900],
    "bmp header": b"BM",
    "webp cut": FILES["webp"][:200],
    "gif header": b"GIF89a",
    "tiff": file_of(PHOTO, "TIFF"),
}


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("decode", [decode_rgb, decode_in_graph], ids=["eager", "graph"])
def test_what_is_no_image_is_an_invalid_argument(decode, name):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(tf.constant(BAD_FILES[name]))


@pytest.mark.parametrize("name", ["garbage", "nothing", "jpeg header", "png cut", "tiff"])
def test_what_is_no_image_has_no_part(name):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_part(tf.constant(BAD_FILES[name]), (0, 0, 1, 1))


def test_a_run_length_encoded_bmp_is_refused_in_words():
    compressed = bytearray(FILES["bmp palette"])
    compressed[30] = 1  # BI_RLE8
    with pytest.raises(tf.errors.InvalidArgumentError, match="run-length encoded BMP"):
        decode_rgb(tf.constant(bytes(compressed)))
