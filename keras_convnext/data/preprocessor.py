"""Prepares images for a classifier with Pillow, as the official code does."""

import dataclasses
import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from keras_convnext.catalog.checkpoints import get_checkpoint
from keras_convnext.catalog.preprocessing import INTERPOLATIONS, OFFICIAL
from keras_convnext.data.pillow_resize import evaluation_pixels
from keras_convnext.data.pixels import CHANNELS_OF_FILES, Image, pixels_of
from keras_convnext.errors import UserError

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Preprocessor:
    """Resizes and crops images as the official code does for evaluation.

    Images below `warp_from` pixels: the short side is resized to `int(image_size / crop_fraction)`
    and the centre is cropped. From `warp_from` on, the whole image is resized without keeping its
    aspect ratio. If height and width differ, which no published network has, the image is resized,
    keeping its aspect ratio, until it just covers both over `crop_fraction`, and the centre is
    cropped, at any size. Resizing is always antialiased. Values stay between 0 and 255, since the
    networks of this package normalize images themselves.

    Attributes:
        image_size: Height and width of the result, in pixels: one number for both, or two.
        crop_fraction: The centre crop's share of the resized image, in (0, 1]. Defaults to 0.875.
        channels: 3 for RGB images; 1 for grey images, converted as Pillow does. Any other number
            takes arrays of as many channels only, whose values are resized without rounding.
        apply_orientation: Whether image files and Pillow's images are turned as their EXIF tag
            says, as photographs of telephones must be. The published accuracies were measured
            without.
        interpolation: `"bicubic"` or `"bilinear"`. Defaults to `"bicubic"`.
        warp_from: Side of a square, in pixels, from which the whole image is resized instead of
            cropped; `None` always crops. Defaults to 384, the official rule.

    Raises:
        UserError: If an attribute is out of range.

    Example:
        >>> preprocess = keras_convnext.Preprocessor.for_weights("convnext_tiny.fb_in1k")
        >>> images = np.stack([preprocess("cat.jpg"), preprocess("dog.png")])  # (2, 224, 224, 3)
    """

    image_size: int | tuple[int, int]
    crop_fraction: float = OFFICIAL.crop_fraction
    channels: int = 3
    apply_orientation: bool = True
    interpolation: str = OFFICIAL.interpolation
    warp_from: int | None = OFFICIAL.warp_from

    def __post_init__(self) -> None:
        height, width = sides(self.image_size)
        object.__setattr__(self, "image_size", height if height == width else (height, width))
        if not 0 < self.crop_fraction <= 1:
            raise UserError(
                f"`crop_fraction` must be above 0 and at most 1. Received: {self.crop_fraction!r}."
            )
        if self.channels < 1:
            raise UserError(f"`channels` must be at least 1. Received: {self.channels!r}.")
        if self.interpolation not in INTERPOLATIONS:
            raise UserError(
                f"`interpolation` must be one of {', '.join(INTERPOLATIONS)}. "
                f"Received: {self.interpolation!r}."
            )
        if self.warp_from is not None and self.warp_from < 1:
            raise UserError(
                f"`warp_from` must be at least 1 pixel, or None to crop at every size. "
                f"Received: {self.warp_from!r}."
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape of a prepared image, `(height, width, channels)`."""
        return (*sides(self.image_size), self.channels)

    @classmethod
    def for_weights(cls, name: str) -> "Preprocessor":
        """Returns the transform that a published checkpoint was evaluated with.

        Args:
            name: Full name of the checkpoint; see `keras_convnext.list_weights`.

        Raises:
            WeightsError: If there is no such checkpoint.
        """
        checkpoint = get_checkpoint(name)
        preprocessing = checkpoint.preprocessing
        return cls(
            checkpoint.image_size,
            checkpoint.crop_fraction,
            interpolation=preprocessing.interpolation,
            warp_from=preprocessing.warp_from,
        )

    def __call__(self, image: Image) -> np.ndarray:
        """Prepares one image.

        Args:
            image: An image file, its bytes, an image of Pillow's, or an array: `(height, width,
                3)`, grey as `(height, width)` or `(height, width, 1)`, or RGBA, whose transparency
                is dropped. Values from 0 to 255, as `uint8`, or as
                floats or 32-bit integers, which are rounded; values from 0 to 1 are refused.

        Returns:
            `float32` array of shape `(height, width, channels)`, whole numbers from 0 to 255.

        Raises:
            DataError: If a file is missing or is no image.
            UserError: If it is none of these, or an array of other values.
        """
        pixels = evaluation_pixels(
            pixels_of(image, self.channels, self.apply_orientation),
            sides(self.image_size),
            self.crop_fraction,
            self.interpolation,
            self.warp_from,
        )
        return pixels.astype("float32")

    def resized(self, pixels: "tf.Tensor") -> "tf.Tensor":
        """Resizes and crops decoded pixels inside a TensorFlow graph; values differ by at most 1.

        Args:
            pixels: `uint8` tensor of shape `(height, width, channels)`, or `float32` for other
                channels than 1 and 3.

        Returns:
            `float32` tensor of the shape `image_shape`.
        """
        from keras_convnext.data.transforms.resize_crop import evaluation_image

        return evaluation_image(
            pixels,
            self.image_size,
            self.crop_fraction,
            rounded=self.channels in CHANNELS_OF_FILES,
            interpolation=self.interpolation,
            warp_from=self.warp_from,
        )


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """Returns height and width, which may be given as one number.

    Raises:
        UserError: If they are not positive whole numbers.
    """
    try:
        height, width = map(operator.index, size if isinstance(size, Iterable) else (size, size))
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise UserError(
            f"`image_size` must be a positive whole number of pixels, or two of them, height and "
            f"width. Received: {size!r}."
        )
    return height, width
