"""What people call an image, against Pillow."""

import io

import keras
import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.ExifTags import Base

from keras_convnext.data.pixels import each_image, pixels_of
from keras_convnext.errors import DataError, UserError

pytestmark = pytest.mark.backend_free

RGB = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype="uint8")
GREY = RGB[..., 0]
RGBA = np.dstack([RGB, GREY])
ORIENTATION = Base.Orientation


def encoded(image, format="PNG"):
    file = io.BytesIO()
    image.save(file, format)
    return file.getvalue()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "image",
    [RGB, RGB.astype("float32"), RGB * 0.999, RGB.astype("int64"), RGB.astype("float16"), RGBA],
    ids=lambda image: f"{image.dtype} {image.shape[-1]}",
)
def test_colours_are_pillows(image, channels):
    expected = np.asarray(Image.fromarray(RGB).convert({1: "L", 3: "RGB"}[channels]))
    found = pixels_of(image, channels)
    assert (found.dtype, found.shape) == ("uint8", (9, 14, channels))
    np.testing.assert_array_equal(np.squeeze(found), expected)


@pytest.mark.parametrize("image", [GREY, GREY[..., np.newaxis], GREY.astype("float64")])
def test_grey_arrays_are_turned_into_any_colour(image):
    np.testing.assert_array_equal(pixels_of(image, 1)[..., 0], GREY)
    np.testing.assert_array_equal(pixels_of(image, 3), np.dstack([GREY] * 3))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_images_of_pillows_are_turned_unless_told_otherwise(orientation):
    image = Image.fromarray(RGB)
    image.getexif()[ORIENTATION] = orientation
    turned = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(pixels_of(image, 3), turned)
    np.testing.assert_array_equal(pixels_of(image, 3, apply_orientation=False), RGB)
    file = io.BytesIO()
    image.save(file, "PNG", exif=image.getexif())
    for source in (file.getvalue(), Image.open(file)):
        np.testing.assert_array_equal(pixels_of(source, 3), turned)
        np.testing.assert_array_equal(pixels_of(source, 3, apply_orientation=False), RGB)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]
)
def test_images_of_pillows_are_taken_in_any_mode(mode):
    image = Image.fromarray(RGB).convert(mode)
    try:
        expected = np.asarray(image.convert("RGB"))
    except ValueError:
        with pytest.raises(UserError, match=f"in the mode {mode} cannot be turned into RGB"):
            pixels_of(image, 3)
    else:
        np.testing.assert_array_equal(pixels_of(image, 3), expected)


def test_sixteen_bits_of_pillows_are_those_of_the_file():
    image = Image.fromarray(GREY.astype("uint16") * 257)
    assert image.mode == "I;16"
    np.testing.assert_array_equal(pixels_of(image, 1), pixels_of(encoded(image), 1))
    np.testing.assert_array_equal(pixels_of(image, 1)[..., 0], GREY)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_wide_numbers_of_pillows_must_be_pixels(mode):
    image = Image.fromarray(GREY).convert(mode)
    np.testing.assert_array_equal(pixels_of(image, 1)[..., 0], GREY)
    with pytest.raises(UserError, match="must be from 0 to 255"):
        pixels_of(Image.fromarray(np.asarray(image) * 200), 1)


def test_encoded_bytes_are_the_file_they_are_of(tmp_path):
    data = encoded(Image.fromarray(RGB), "BMP")
    (tmp_path / "a b.bmp").write_bytes(data)
    for image in (data, bytearray(data), memoryview(data), tmp_path / "a b.bmp"):
        np.testing.assert_array_equal(pixels_of(image, 3), RGB)


def test_names_need_not_be_utf_8(tmp_path):
    path = bytes(tmp_path) + b"/\xff.png"
    with open(path, "wb") as file:
        file.write(encoded(Image.fromarray(RGB)))
    (name,) = tmp_path.iterdir()
    np.testing.assert_array_equal(pixels_of(name, 3), RGB)


def test_tensors_are_arrays():
    tensor = keras.ops.convert_to_tensor(RGB)
    np.testing.assert_array_equal(pixels_of(tensor, 3), RGB)
    assert [np.shape(one) for one in each_image(tensor)] == [RGB.shape]


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (RGB / 255, "Received: float64 with values from 0 to 1"),
        (RGB / 127.5 - 1, "Received: float64 with values from -1 to"),
        (RGB * np.nan, "Received: float64 with values from nan"),
        (np.where(RGB > 9, RGB, np.inf), "to inf"),
        (RGB.astype("int32") + 1, "Received: int32 with values from 1 to 256"),
        (RGB.astype("uint16"), "Received: uint16.*divide those of 16 bits by 257"),
        (RGB > 100, "Received: bool"),
        (RGB.astype("complex64"), "Received: complex64"),
        (RGB[..., :2], r"1, 3 or 4 channels.*Received an image of shape \(9, 14, 2\)"),
        (RGB.transpose(2, 0, 1), r"Received an image of shape \(3, 9, 14\)"),
        (RGB[:0], r"no side of 0.*shape \(0, 14, 3\)"),
        (RGB[np.newaxis, np.newaxis], r"shape \(1, 1, 9, 14, 3\)"),
        (np.float32(3), r"shape \(\)"),
        (None, "Received: NoneType"),
        ({"file": "a.jpg"}, "Received: dict"),
    ],
)
def test_what_cannot_be_an_image_is_refused(image, sentence):
    with pytest.raises(UserError, match=sentence):
        pixels_of(image, 3)


def test_black_is_black_on_any_scale():
    np.testing.assert_array_equal(pixels_of(np.zeros((2, 3, 3)), 3), np.zeros((2, 3, 3)))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("none.jpg", "There is no file .*none.jpg"),
        ("", "There is no file "),
        ("text.jpg", r"text.jpg cannot be read as an image. Images may be JPEG"),
        ("folder", "folder cannot be read as an image: Is a directory"),
        ("text.jpg/a.jpg", "a.jpg cannot be read as an image: Not a directory"),
        ("a\0b", "cannot be read as an image: embedded null byte"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, monkeypatch, name, sentence):
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=sentence):
        pixels_of(name, 3)


def test_a_picture_that_was_cut_off_is_a_bad_file():
    whole = encoded(Image.fromarray(RGB.repeat(40, axis=0)))
    with pytest.raises(DataError, match="The encoded image cannot be read as an image"):
        pixels_of(whole[: len(whole) // 2], 3)
    with pytest.raises(DataError, match="An image of Pillow's cannot be read: "):
        pixels_of(Image.open(io.BytesIO(whole[: len(whole) // 2])), 3)


def test_other_channels_hold_any_finite_number():
    bands = np.random.default_rng(0).normal(0, 1e4, (4, 5, 6))
    np.testing.assert_array_equal(pixels_of(bands, 6), bands.astype("float32"))
    for image, sentence in [
        (np.where(bands > 0, bands, np.nan), "finite numbers"),
        (bands > 0, "must hold numbers. Received: bool"),
        (bands[..., :3], r"with 6 channels.*shape \(4, 5, 3\)"),
        (Image.fromarray(RGBA), r"Pass arrays of shape \(height, width, 6\)"),
    ]:
        with pytest.raises(UserError, match=sentence):
            pixels_of(image, 6)


def test_one_image_or_several_are_told_apart():
    for one in (RGB, GREY, "a.jpg", b"...", Image.fromarray(RGB), np.str_("a.jpg")):
        assert list(each_image(one)) == [one] or one is RGB or one is GREY
        assert len(list(each_image(one))) == 1
    assert len(list(each_image(np.stack([RGB] * 4)))) == 4
    assert list(each_image(np.array(["a.jpg", "b.jpg"]))) == ["a.jpg", "b.jpg"]
    assert list(each_image(["a.jpg", "b.jpg"])) == ["a.jpg", "b.jpg"]
