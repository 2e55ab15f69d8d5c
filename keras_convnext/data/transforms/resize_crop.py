"""Resizing and cropping to the network's input size, for evaluation and for training.

Images have RGB values from 0 to 255 in `float32`; the network normalizes them itself.
"""

import tensorflow as tf

from keras_convnext.catalog.preprocessing import OFFICIAL, warps

# Number of random crops drawn; if none fits into the image, a centre crop is taken.
CROP_TRIES = 10


def evaluation_image(
    image: tf.Tensor,
    size: int | tuple[int, int],
    crop_fraction: float,
    rounded: bool = True,
    interpolation: str = OFFICIAL.interpolation,
    warp_from: int | None = OFFICIAL.warp_from,
) -> tf.Tensor:
    """Resizes and crops an image as the official code does for evaluation.

    Below `warp_from` pixels, the shorter side is resized to `int(size / crop_fraction)` and the
    centre is cropped. From `warp_from` on, the whole image is resized without keeping its aspect
    ratio. Source: the official `datasets.py`, which has square results only. For other sizes, the
    image is resized to the smallest size that covers height and width over `crop_fraction`, keeping
    its aspect ratio, and the centre is cropped.

    Args:
        image: `uint8` tensor of shape `(height, width, channels)`.
        size: Height and width of the result, in pixels: one number for both, or two.
        crop_fraction: Side of the crop as a fraction of the resized image's, in (0, 1].
        rounded: Whether the values are whole numbers from 0 to 255, as Pillow has them. Defaults to
            `True`.
        interpolation: `"bicubic"` or `"bilinear"`. Defaults to `"bicubic"`.
        warp_from: Defaults to 384, the official rule; `None` always crops.

    Returns:
        `float32` tensor of shape `(height, width, channels)`, of whole numbers from 0 to 255 if
        `rounded`.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if warps(height, width, warp_from):
        return resize(image, height, width, rounded, interpolation)
    least = int(height / crop_fraction), int(width / crop_fraction)
    image = _covering(image, *least, rounded, interpolation)
    full_height, full_width = _size(image)
    top = tf.cast(tf.round((full_height - height) / 2), tf.int32)
    left = tf.cast(tf.round((full_width - width) / 2), tf.int32)
    crop = image[top : top + height, left : left + width]
    return tf.ensure_shape(crop, (height, width, image.shape[-1]))


def _covering(image, least_height, least_width, rounded, interpolation):
    """Resizes an image to the smallest size that covers another, keeping its aspect ratio."""
    height, width = _size(image)
    # The longer side is rounded down, as in torchvision.
    by_height = least_height * width >= least_width * height
    return resize(
        image,
        tf.where(by_height, least_height, least_width * height // width),
        tf.where(by_height, least_height * width // height, least_width),
        rounded,
        interpolation,
    )


def draw_crop(
    height: tf.Tensor,
    width: tf.Tensor,
    area: tuple[float, float],
    ratio: tuple[float, float],
    seed: tf.Tensor,
) -> tf.Tensor:
    """Draws a random crop, to be resized to the network's input size.

    Ten crops are drawn, with an area from a uniform and an aspect ratio from a log-uniform
    distribution. The first that fits into the image is taken. If none fits, it is the largest
    centre crop within the limits of the ratio. Source: torchvision's `RandomResizedCrop`, which the
    paper's training uses.

    Args:
        height: Height of the image, an `int32` scalar.
        width: Width of the image, an `int32` scalar.
        area: Minimum and maximum area, as fractions of the image's area.
        ratio: Minimum and maximum width / height.
        seed: Seed, an integer tensor of shape `(2,)`.

    Returns:
        Top, left, height and width of the crop, `int32` of shape `(4,)`.
    """
    draws = tf.random.stateless_uniform((4, CROP_TRIES), seed)
    areas = tf.cast(height * width, tf.float32) * (area[0] + (area[1] - area[0]) * draws[0])
    low, high = tf.math.log(ratio[0]), tf.math.log(ratio[1])
    ratios = tf.exp(low + (high - low) * draws[1])
    widths = tf.cast(tf.round(tf.sqrt(areas * ratios)), tf.int32)
    heights = tf.cast(tf.round(tf.sqrt(areas / ratios)), tf.int32)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    tops = tf.cast(draws[2] * tf.cast(height - heights + 1, tf.float32), tf.int32)
    lefts = tf.cast(draws[3] * tf.cast(width - widths + 1, tf.float32), tf.int32)
    drawn = tf.stack([tops, lefts, heights, widths])[:, tf.argmax(fits)]
    return tf.where(tf.reduce_any(fits), drawn, _largest_centre_crop(height, width, ratio))


def _largest_centre_crop(height, width, ratio):
    as_float = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    box_height = tf.minimum(height, tf.cast(tf.round(as_float[1] / ratio[0]), tf.int32))
    box_width = tf.minimum(width, tf.cast(tf.round(as_float[0] * ratio[1]), tf.int32))
    return tf.stack([(height - box_height) // 2, (width - box_width) // 2, box_height, box_width])


def random_crop(image: tf.Tensor, padding: int, seed: tf.Tensor) -> tf.Tensor:
    """Pads an image with black and takes a random crop of the original size.

    Source: torchvision's `RandomCrop`, which the official code uses with a padding of 4 for images
    of up to 32 pixels.

    Args:
        image: `float32` tensor of shape `(height, width, 3)`.
        padding: Width of the black border, in pixels.
        seed: Seed, an integer tensor of shape `(2,)`.

    Returns:
        The crop, of the same type and shape as `image`.
    """
    padded = tf.pad(image, [[padding, padding], [padding, padding], [0, 0]])
    top, left = tf.unstack(
        tf.random.stateless_uniform((2,), seed, maxval=2 * padding + 1, dtype=tf.int32)
    )
    height, width = image.shape[:2]
    return tf.ensure_shape(padded[top : top + height, left : left + width], image.shape)


def random_flip(image: tf.Tensor, probability: float, seed: tf.Tensor) -> tf.Tensor:
    """Mirrors an image left to right with a probability, by a seed of shape `(2,)`."""
    flips = tf.random.stateless_uniform((), seed) < probability
    return tf.cond(flips, lambda: tf.reverse(image, [1]), lambda: image)


def resize(
    image: tf.Tensor, height, width, rounded: bool = True, interpolation: str = "bicubic"
) -> tf.Tensor:
    """Resizes as Pillow does with `BICUBIC` or `BILINEAR`: antialiased, to whole numbers.

    Pillow rounds to 8 bits between its horizontal and its vertical pass. With the same two passes
    the results differ from Pillow's by at most 1 of 255 in the images tested; in a single step they
    would differ by up to 9, where the filter overshoots. The horizontal pass comes first, as in
    Pillow before 13, with which the published networks were trained.

    Args:
        image: Tensor of shape `(height, width, channels)`.
        height: Height of the result, in pixels.
        width: Width of the result, in pixels.
        rounded: Whether values are rounded and clipped to 0 to 255. Defaults to `True`.
        interpolation: `"bicubic"` or `"bilinear"`. Defaults to `"bicubic"`.

    Returns:
        `float32` tensor of shape `(height, width, channels)`.
    """
    # In float32, since TensorFlow warns when it transposes bytes on processors without AVX-512.
    columns = tf.transpose(tf.cast(image, tf.float32), (1, 0, 2))
    columns = _resize_rows(columns, width, rounded, interpolation)
    return _resize_rows(tf.transpose(columns, (1, 0, 2)), height, rounded, interpolation)


def _resize_rows(image, height, rounded, interpolation):
    """Resizes vertically.

    TensorFlow always resizes in both directions. A row is passed as one pixel with many channels,
    so that the horizontal resize is the identity.
    """
    width, channels = tf.shape(image)[1], image.shape[-1]
    rows = tf.reshape(image, (1, -1, 1, width * channels))
    resized = tf.image.resize(rows, (height, 1), method=interpolation, antialias=True)
    if rounded:
        # Halves are rounded up, as in Pillow; `tf.round` rounds them to even.
        resized = tf.clip_by_value(tf.floor(resized + 0.5), 0.0, 255.0)
    return tf.reshape(resized, (height, width, channels))


def _size(image):
    shape = tf.shape(image)
    return shape[0], shape[1]
