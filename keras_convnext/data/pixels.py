"""Reads the pixels of an image file, encoded bytes, a Pillow image or an array."""

import os
from collections.abc import Iterable
from io import BytesIO
from typing import TypeAlias, cast

import numpy as np
from PIL import Image as pillow
from PIL import ImageOps
from PIL.ExifTags import Base

from keras_convnext.errors import DataError, UserError

Image: TypeAlias = str | os.PathLike[str] | bytes | np.ndarray | pillow.Image

# Channels that an image file can be converted to; arrays may have any number.
CHANNELS_OF_FILES = (1, 3)
# The same as TensorFlow reads, in Pillow's spelling.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF")
FORMATS_IN_WORDS = "JPEG, PNG, BMP, WebP and GIF"
_ENCODED = (bytes, bytearray, memoryview)


def pixels_of(image: Image, channels: int, apply_orientation: bool = True) -> np.ndarray:
    """Returns the pixels of one image.

    Args:
        image: An image file, its bytes, an image of Pillow's in any mode, or an array: `(height,
            width)` and `(height, width, 1)` are grey, `(height, width, 3)` is RGB, and `(height,
            width, 4)` is RGBA, whose transparency is dropped. Values are from 0 to 255, in `uint8`
            or wider types; they are rounded.
        channels: 3 for RGB, 1 for grey. Any other number takes arrays of as many channels only,
            with any values, since only the network knows their meaning.
        apply_orientation: Whether files and Pillow's images are turned as their EXIF tag says.

    Returns:
        `uint8`, or `float32` for other channels than 1 and 3, of shape `(height, width, channels)`.

    Raises:
        DataError: If a file is missing or is no image.
        UserError: If it is none of these.
    """
    if _is_array(image):
        return _of_array(np.asarray(image), channels)
    if not _is_file(image) and not _is_pillow(image):
        raise UserError(
            f"An image must be a file's path, a file's bytes, an image of Pillow's or an array of "
            f"pixels. Received: {type(image).__name__}."
        )
    check_files_have(channels)
    if _is_pillow(image):
        return _of_pillow(image, channels, apply_orientation)
    return _of_file(image, channels, apply_orientation)


def each_image(images: Image | Iterable[Image]) -> Iterable[Image]:
    """Returns the images one after another: one image alone, a batch of arrays, or several images.

    Raises:
        UserError: If it is none of these.
    """
    if _is_array(images):
        array = np.asarray(images)
        several = array.ndim == 4 or (array.ndim == 1 and array.dtype.kind in "OU")  # or paths
        return array if several else [array]
    if _is_file(images) or _is_pillow(images):
        return [cast(Image, images)]
    if not isinstance(images, Iterable):
        raise UserError(
            f"Images must be one image, a list of images, or an array of shape (batch, height, "
            f"width, channels). Received: {type(images).__name__}."
        )
    return cast(Iterable[Image], images)


def _is_file(image) -> bool:
    """Whether this is a file's path or its bytes."""
    return isinstance(image, (str, os.PathLike, *_ENCODED))


def _is_array(image) -> bool:
    """Whether this is an array or a tensor of any backend; NumPy's strings are not."""
    return hasattr(image, "__array__") and not _is_file(image) and not _is_pillow(image)


def _is_pillow(image) -> bool:
    return isinstance(image, pillow.Image)


def check_files_have(channels: int) -> None:
    """Raises a `UserError` if image files cannot be converted to this many channels."""
    if channels not in CHANNELS_OF_FILES:
        raise UserError(
            f"The network takes images of {channels} channels, and image files can be turned into "
            f"3 (RGB) or 1 (grey) only. Pass arrays of shape (height, width, {channels})."
        )


def _of_file(image, channels, apply_orientation) -> np.ndarray:
    if isinstance(image, _ENCODED):
        name, encoded = "The encoded image", bytes(image)
    else:
        name = os.fsdecode(image)
        encoded = _read(name)
    try:
        opened = pillow.open(BytesIO(encoded), formats=FORMATS)
        return _of_pillow(opened, channels, apply_orientation)
    except MemoryError:
        raise
    except pillow.DecompressionBombError as error:
        raise DataError(f"{name} cannot be read as an image: {error}") from None
    except Exception:  # Pillow raises errors of any kind for a damaged file
        raise DataError(
            f"{name} cannot be read as an image. Images may be {FORMATS_IN_WORDS}."
        ) from None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except (OSError, ValueError) as error:  # the latter for a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read as an image: {reason}.") from None


def _of_pillow(image, channels, apply_orientation) -> np.ndarray:
    if apply_orientation:
        image = _turned(image)
    # Grey PNG files of 16 bits have the mode I before Pillow 11.
    has_16_bits = image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PNG")
    if image.mode in ("I", "F") and not has_16_bits:  # Pillow's conversion would clip above 255
        return _of_array(np.asarray(image), channels)
    try:
        if has_16_bits:
            return _of_array((np.asarray(image) >> 8).astype("uint8"), channels)
        # Without the transparency that Pillow warns of.
        through = image.convert("RGBA") if image.mode == "P" else image
        return _of_array(np.asarray(through.convert("RGB")), channels)
    except OSError as error:  # Pillow reads a file when its pixels are first needed
        raise DataError(f"An image of Pillow's cannot be read: {error}.") from error
    except ValueError as error:
        raise UserError(
            f"An image of Pillow's in the mode {image.mode} cannot be turned into RGB: {error}."
        ) from error


def _turned(image):
    try:
        is_turned = image.getexif().get(Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if is_turned else image
    except Exception:  # a damaged tag, for which Pillow raises errors of any kind, is ignored
        return image


def _of_array(array: np.ndarray, channels: int) -> np.ndarray:
    if array.ndim == 2:
        array = array[..., np.newaxis]
    any_colour = channels in CHANNELS_OF_FILES
    allowed, wanted = ((1, 3, 4), "1, 3 or 4") if any_colour else ((channels,), str(channels))
    if array.ndim != 3 or array.shape[-1] not in allowed or not array.size:
        raise UserError(
            f"An image array must have the shape (height, width, channels), with {wanted} channels "
            f"and no side of 0, and a batch (batch, height, width, channels). Received an image of "
            f"shape {tuple(array.shape)}."
        )
    if not any_colour:
        return _finite(array)
    pixels = _eight_bits(array)[..., :3]
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 1:
        return np.asarray(pillow.fromarray(pixels).convert("L"))[..., np.newaxis]
    return np.repeat(pixels, channels, axis=-1)


def _finite(array) -> np.ndarray:
    if array.dtype.kind not in "uif":
        raise UserError(f"An image array must hold numbers. Received: {array.dtype}.")
    if not np.isfinite(array).all():
        raise UserError("An image array must hold finite numbers. Received: NaN or infinity.")
    return array.astype("float32")


def _eight_bits(array) -> np.ndarray:
    """Returns an array of values from 0 to 255 as `uint8`."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "f" or (array.dtype.kind in "ui" and array.dtype.itemsize >= 4):
        low, high = float(array.min()), float(array.max())
        found = f"{array.dtype} with values from {low:g} to {high:g}"
        # False for NaN. Values from 0 to 1 are another scale, but zeros are black on either.
        is_right = low >= 0 and (high == 0 or 1 < high <= 255)
    else:
        found, is_right = str(array.dtype), False
    if not is_right:
        raise UserError(
            f"An image's values must be from 0 to 255: in uint8, or as floats or 32-bit integers "
            f"that reach above 1. Received: {found}. Multiply values from 0 to 1 by 255, and "
            f"divide those of 16 bits by 257."
        )
    return np.floor(array + 0.5).astype("uint8") if array.dtype.kind == "f" else array.astype("u1")
