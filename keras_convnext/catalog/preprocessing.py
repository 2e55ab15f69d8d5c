"""How images are prepared for a network: resizing, cropping and normalization, as data.

Importing this module imports no backend.
"""

from dataclasses import dataclass

from keras_convnext.catalog import imagenet

# Interpolations that images can be resized with, always antialiased.
INTERPOLATIONS = ("bicubic", "bilinear")


@dataclass(frozen=True)
class Preprocessing:
    """What a network's weights expect of its images.

    The defaults are those of the official code, which every checkpoint of its authors was trained
    and evaluated with.

    Attributes:
        mean: Mean that the network subtracts from each channel, on a scale of 0 to 1.
        std: Standard deviation that it divides each channel by, on the same scale.
        interpolation: How images are resized; one of `INTERPOLATIONS`.
        crop_fraction: The centre crop's share of the resized image, in (0, 1].
        warp_from: Side in pixels from which a square image is resized as a whole, without keeping
            its aspect ratio and without a crop; `None` if images are always cropped.
    """

    mean: tuple[float, ...] = imagenet.MEAN
    std: tuple[float, ...] = imagenet.STD
    interpolation: str = "bicubic"
    crop_fraction: float = 0.875
    warp_from: int | None = 384


OFFICIAL = Preprocessing()


def warps(height: int, width: int, warp_from: int | None) -> bool:
    """Returns whether an image of this size is resized as a whole instead of cropped.

    Args:
        height: Height of the network's images, in pixels.
        width: Their width.
        warp_from: See `Preprocessing`.
    """
    return warp_from is not None and height == width >= warp_from
