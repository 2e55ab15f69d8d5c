"""The normalization of images that a `.keras` file stores in its configuration."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NORMALIZATION = "pixel_normalization"  # the layer's name in every network of this package
CONFIG = "config.json"
DIGITS = 9  # statistics were multiplied by 255 in float64, so division by 255 is not exact


def normalization_in(path: Path) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Returns mean and standard deviation of each channel, on a scale of 0 to 1.

    `None` if the file is not a `.keras` file, or its model does not normalize images.
    """
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        if CONFIG not in archive.namelist():
            return None
        config = json.loads(archive.read(CONFIG))
    for layer in _dicts(config):
        mean, variance = layer.get("mean"), layer.get("variance")
        if layer.get("name") == NORMALIZATION and mean and variance:
            return (
                tuple(round(value / 255, DIGITS) for value in mean),
                tuple(round(value**0.5 / 255, DIGITS) for value in variance),
            )
    return None


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    """Yields every dict within a JSON value."""
    if isinstance(value, dict):
        yield value
    children = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict | list):
        for child in children:
            yield from _dicts(child)
