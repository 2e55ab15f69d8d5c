"""Resizes and crops images for evaluation with Pillow, without TensorFlow.

`data/transforms/resize_crop.py` does the same inside a TensorFlow graph, where values differ by at
most 1 of 255.
"""

import numpy as np
from PIL import Image

from keras_convnext.catalog.preprocessing import warps

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def evaluation_pixels(
    image: np.ndarray,
    size: tuple[int, int],
    crop_fraction: float,
    interpolation: str,
    warp_from: int | None,
) -> np.ndarray:
    """Resizes and crops an image as the official code does for evaluation; see `Preprocessor`.

    Args:
        image: Array of shape `(height, width, channels)`: `uint8` of 1 or 3 channels, or `float32`
            of any number, whose values are not rounded.
        size: Height and width of the result, in pixels.
        crop_fraction: Side of the crop as a fraction of the resized image's, in (0, 1].
        interpolation: `"bicubic"` or `"bilinear"`.
        warp_from: Side from which the whole image is resized; `None` always crops.

    Returns:
        Array of the same type, of shape `(height, width, channels)`.
    """
    height, width = size
    if warps(height, width, warp_from):
        return resize(image, height, width, interpolation)
    least = int(height / crop_fraction), int(width / crop_fraction)
    image = resize(image, *_covering(image.shape[:2], least), interpolation)
    full_height, full_width = image.shape[:2]
    top, left = round((full_height - height) / 2), round((full_width - width) / 2)
    return image[top : top + height, left : left + width]


def _covering(sides: tuple[int, int], least: tuple[int, int]) -> tuple[int, int]:
    """Returns the smallest size of the same aspect ratio that covers `least`."""
    (height, width), (least_height, least_width) = sides, least
    # The longer side is rounded down, as in torchvision.
    if least_height * width >= least_width * height:
        return least_height, least_height * width // height
    return least_width * height // width, least_width


def resize(image: np.ndarray, height: int, width: int, interpolation: str) -> np.ndarray:
    """Resizes an array, antialiased."""
    if image.dtype == np.uint8:
        bands = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        return np.asarray(_resized(bands, height, width, interpolation)).reshape(height, width, -1)
    planes = (Image.fromarray(plane) for plane in np.moveaxis(image, -1, 0))
    resized = [np.asarray(_resized(plane, height, width, interpolation)) for plane in planes]
    return np.stack(resized, axis=-1)


def _resized(image: Image.Image, height: int, width: int, interpolation: str) -> Image.Image:
    # The horizontal pass first, as in Pillow before 13, with which the published networks were
    # trained. Values are rounded between the passes.
    rows = image.resize((width, image.height), FILTERS[interpolation])
    return rows.resize((width, height), FILTERS[interpolation])
