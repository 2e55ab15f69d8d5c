"""What TensorFlow decodes has to be what Pillow decodes, to the last bit."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_image

from keras_convnext.data.decoding import decode_rgb

pytestmark = pytest.mark.backend_free

# Traced once; every file goes through the same graph, as in a pipeline or a served model.
decode_in_graph = tf.function(decode_rgb, input_signature=[tf.TensorSpec((), tf.string)])

# Odd sides, so that halved chroma and padded rows have a remainder.
PHOTO = Image.fromarray(load_sample_image("china.jpg")).crop((200, 100, 283, 161))
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


@pytest.mark.parametrize("decode", [decode_rgb, decode_in_graph], ids=["eager", "graph"])
def test_sixteen_bits_are_cut_to_their_upper_eight(decode):
    # Pillow clips here instead: its own RGB of this file is almost white.
    decoded = decode(tf.constant(file_of(Image.fromarray(SIXTEEN_BITS), "PNG"))).numpy()
    upper = (SIXTEEN_BITS >> 8).astype("uint8")
    np.testing.assert_array_equal(decoded, np.repeat(upper[..., None], 3, axis=-1))


def test_the_shape_is_known_inside_a_graph():
    assert decode_in_graph.get_concrete_function().structured_outputs.shape == (None, None, 3)


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


def test_a_run_length_encoded_bmp_is_refused_in_words():
    compressed = bytearray(FILES["bmp palette"])
    compressed[30] = 1  # BI_RLE8
    with pytest.raises(tf.errors.InvalidArgumentError, match="run-length encoded BMP"):
        decode_rgb(tf.constant(bytes(compressed)))
