"""A stem's kernel for images of other channels than the RGB it was trained on."""

import numpy as np

RGB = 3


def can_adapt(here: tuple[int, ...], there: tuple[int, ...]) -> bool:
    """Returns whether the kernels' shapes differ in their channels only, and the file's are RGB."""
    same_rest = len(here) == len(there) == 4 and here[:2] + here[3:] == there[:2] + there[3:]
    return same_rest and there[2] == RGB and here[2] != RGB


def adapt_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Returns an RGB kernel for images of another number of channels.

    For one channel it is the sum over RGB, which gives a grey image the output that it has as RGB
    of three equal channels. For more it is repeated along the channels, in the order RGBRGB..., cut
    to their number, and multiplied by 3 / channels, which keeps the scale of the output. Source:
    timm's `adapt_input_conv`.

    Args:
        kernel: Array of shape `(height, width, 3, filters)`.
        channels: Channels of the images.

    Returns:
        Array of shape `(height, width, channels, filters)`.
    """
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    order = np.arange(channels) % RGB
    return kernel[:, :, order] * np.float32(RGB / channels)
