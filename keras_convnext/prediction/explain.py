"""Draws what speaks for the most probable class over each image."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from keras_convnext.evaluation.grad_cam import grad_cam
from keras_convnext.files import atomic_write
from keras_convnext.prediction.rows import Row
from keras_convnext.tasks.classification.predictor import Predictor

SMALLEST_SIDE = 224  # of a picture, in pixels; those of smaller networks are enlarged
# From no evidence to the most: blue, green, yellow, red.
COLOURS = np.array([[32, 64, 192], [32, 176, 96], [240, 208, 48], [208, 32, 32]], "float32")
OPACITY = 0.55  # where the evidence is greatest


def explained(rows: Iterable[Row], predictor: Predictor, directory: Path) -> Iterator[Row]:
    """Yields the rows, and writes a picture for each image that could be read.

    A picture shows the image as the network sees it, resized and cropped, under the heat of
    Grad-CAM for its most probable class. It is named by the number of the row and the file's name.

    Raises:
        WriteError: If a picture cannot be written.
        UserError: If the classifier is of a kind that cannot be explained; see `grad_cam`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for number, row in zip(itertools.count(1), rows, strict=False):
        if row.predictions:
            pixels = predictor.preprocessor(row.image)
            label = predictor.class_names.index(row.predictions[0].label)
            picture = overlay(pixels, grad_cam(predictor.classifier, pixels, label))
            with atomic_write(directory / f"{number}_{Path(row.image).stem}.png") as written:
                picture.save(written)
        yield row


def overlay(pixels: np.ndarray, heat: np.ndarray) -> Image.Image:
    """Returns an image under its heat, at least 224 pixels high and wide.

    Args:
        pixels: `(height, width, channels)` with 1 or 3 channels, values from 0 to 255.
        heat: `(height, width)`, from 0 to 1; opaque where it is 1.
    """
    height, width = heat.shape
    scale = max(1, -(-SMALLEST_SIDE // min(height, width)))
    size = (width * scale, height * scale)
    rgb = np.broadcast_to(pixels, (height, width, 3)).astype("uint8")
    image = Image.fromarray(rgb).resize(size, Image.Resampling.NEAREST)
    fine = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BILINEAR))
    places = np.linspace(0, 1, len(COLOURS))
    colour = np.stack([np.interp(fine, places, channel) for channel in COLOURS.T], axis=-1)
    opacity = OPACITY * fine[..., np.newaxis]
    return Image.fromarray((np.asarray(image) * (1 - opacity) + colour * opacity).astype("uint8"))
