"""Image files to what a classifier takes, as Pillow would prepare them."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_convnext.data.decoding import FORMATS, decode_rgb
from keras_convnext.data.preprocessing import evaluation_image
from keras_convnext.errors import DataError
from keras_convnext.weights.catalog import get_checkpoint


@dataclasses.dataclass(frozen=True)
class Preprocessor:
    """The official evaluation transform: antialiased bicubic resizing, then the centre crop.

    Below 384 pixels the short side is resized to `int(image_size / crop_fraction)` and the centre
    is cut out; from 384 on the whole image is resized without keeping its aspect ratio. Values stay
    between 0 and 255, since the networks of this package normalise images themselves.

    Attributes:
        image_size: Height and width of the result, in pixels.
        crop_fraction: The centre crop's share of the resized short side, below 384 pixels.
        apply_orientation: Whether image files are turned as their EXIF says, as photographs of
            telephones must be. The published accuracies were measured without.

    Example:
        >>> preprocess = keras_convnext.Preprocessor.for_weights("convnext_tiny.fb_in1k")
        >>> images = np.stack([preprocess("cat.jpg"), preprocess("dog.png")])  # (2, 224, 224, 3)
    """

    image_size: int
    crop_fraction: float = 0.875
    apply_orientation: bool = True

    @classmethod
    def for_weights(cls, name: str) -> "Preprocessor":
        """Returns the transform that a published checkpoint was evaluated with.

        Args:
            name: Full name of the checkpoint; see `keras_convnext.list_weights`.

        Raises:
            WeightsError: If there is no such checkpoint.
        """
        checkpoint = get_checkpoint(name)
        return cls(checkpoint.image_size, checkpoint.crop_fraction)

    def __call__(self, image: str | Path | np.ndarray) -> np.ndarray:
        """Prepares one image.

        Args:
            image: Image file, or `uint8` array of shape `(height, width, 3)`.

        Returns:
            `float32` array of shape `(image_size, image_size, 3)`, whole numbers from 0 to 255.

        Raises:
            DataError: If the file is missing or is no image.
        """
        if not isinstance(image, np.ndarray):
            image = _read_image(Path(image), self.apply_orientation)
        return evaluation_image(image, self.image_size, self.crop_fraction).numpy()


def _read_image(path: Path, apply_orientation: bool) -> tf.Tensor:
    try:
        return decode_rgb(tf.io.read_file(os.fsencode(path)), apply_orientation)
    except tf.errors.NotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except tf.errors.OpError:
        raise DataError(f"{path} cannot be read as an image. Images may be {FORMATS}.") from None
