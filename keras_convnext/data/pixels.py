"""Reads the pixels of an image file, encoded bytes, a Pillow image or an array."""

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias, Union, cast

import numpy as np
import tensorflow as tf

from keras_convnext.data.transforms.decode import FORMATS, decode_rgb
from keras_convnext.errors import DataError, UserError

if TYPE_CHECKING:
    from PIL import Image as pillow

Image: TypeAlias = Union[str, os.PathLike[str], bytes, np.ndarray, "pillow.Image"]

# Channels that an image file can be converted to; arrays may have any number.
CHANNELS_OF_FILES = (1, 3)
_ENCODED = (bytes, bytearray, memoryview)
# Pillow's ITU-R 601-2 luma: the weights of red, green and blue in 65536ths.
_LUMA = (19595, 38470, 7471)


def pixels_of(image: Image, channels: int, apply_orientation: bool = True) -> tf.Tensor:
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
    return in_channels(_decoded(image, apply_orientation), channels)


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
    module = sys.modules.get(
        "PIL.Image"
    )  # None if Pillow is not imported: then the image cannot be one
    return module is not None and isinstance(image, module.Image)


def check_files_have(channels: int) -> None:
    """Raises a `UserError` if image files cannot be converted to this many channels."""
    if channels not in CHANNELS_OF_FILES:
        raise UserError(
            f"The network takes images of {channels} channels, and image files can be turned into "
            f"3 (RGB) or 1 (grey) only. Pass arrays of shape (height, width, {channels})."
        )


def in_channels(image: tf.Tensor, channels: int) -> tf.Tensor:
    """Converts RGB to grey if `channels` is 1, as Pillow's `convert("L")` does.

    Args:
        image: `uint8` tensor of shape `(height, width, 3)`.
        channels: 3 or 1.

    Returns:
        `uint8` tensor of shape `(height, width, channels)`.
    """
    if channels == 3:
        return image
    weighted = tf.cast(image, tf.int32) * tf.constant(_LUMA)
    luma = (tf.reduce_sum(weighted, axis=-1, keepdims=True) + 2**15) // 2**16
    return tf.cast(luma, tf.uint8)


def _decoded(image, apply_orientation) -> tf.Tensor:
    if isinstance(image, _ENCODED):
        name, encoded = "The encoded image", bytes(image)
    else:
        name = os.fsdecode(image)
        encoded = _read(name)
    try:
        return decode_rgb(tf.constant(encoded), apply_orientation)
    except tf.errors.OpError:
        raise DataError(f"{name} cannot be read as an image. Images may be {FORMATS}.") from None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except (OSError, ValueError) as error:  # the latter for a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read as an image: {reason}.") from None


def _of_pillow(image, channels, apply_orientation) -> tf.Tensor:
    if apply_orientation:
        image = _turned(image)
    if image.mode in ("I", "F"):  # Pillow's own conversion would clip values above 255
        return _of_array(np.asarray(image), channels)
    try:
        if image.mode.startswith("I;16"):
            return _of_array((np.asarray(image) >> 8).astype("uint8"), channels)
        return _of_array(np.asarray(image.convert("RGB")), channels)
    except OSError as error:  # Pillow reads a file when its pixels are first needed
        raise DataError(f"An image of Pillow's cannot be read: {error}.") from error
    except ValueError as error:
        raise UserError(
            f"An image of Pillow's in the mode {image.mode} cannot be turned into RGB: {error}."
        ) from error


def _turned(image):
    from PIL import ImageOps  # installed, since the image is one of Pillow's

    try:
        return ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError):  # a damaged tag is ignored
        return image


def _of_array(array: np.ndarray, channels: int) -> tf.Tensor:
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
        return tf.constant(_finite(array))
    rgb = np.broadcast_to(_eight_bits(array)[..., :3], (*array.shape[:2], 3))
    return in_channels(tf.constant(rgb), channels)


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
