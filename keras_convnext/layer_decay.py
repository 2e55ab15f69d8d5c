"""Layer-wise learning-rate decay: layers near the image learn more slowly. Imports no backend."""

import re
from collections.abc import Sequence

GROUP = 3  # blocks of one stage that share a rate
_PLACE = re.compile(r"(?:^|/)(?:(stem)|stages_(\d+)_(?:downsampling|blocks_(\d+)))/")


def layer_scales(paths: Sequence[str], decay: float) -> list[float]:
    """Returns the factor on the learning rate of every weight.

    Every three blocks of a stage form a group, the downsampling before them included; the stem is
    one below them all, and the final norm, the classifier and whatever else a model holds one
    above. A group's factor is `decay` to the number of groups above it. Source: the official
    `optim_factory.py`, which has this for depths 3, 3, 27, 3 ("12 groups", table 6) and, in its
    dense tasks, 3, 3, 9, 3.

    Args:
        paths: Paths of the weights in the Keras model.
        decay: Factor between neighbouring groups, in (0, 1].

    Example:
        >>> layer_scales(["stem/conv/kernel", "stages_0_blocks_2/norm/gamma", "head/kernel"], 0.5)
        [0.25, 0.5, 1.0]
    """
    places = [_place(path) for path in paths]
    groups = sorted(set(places))
    return [decay ** (len(groups) - 1 - groups.index(place)) for place in places]


def _place(path: str) -> tuple[float, int]:
    """Returns the stage, counted from 1 with the stem as 0, and the group within it."""
    match = _PLACE.search(path)
    if match is None:
        return float("inf"), 0
    stem, stage, block = match.groups()
    return (0, 0) if stem else (int(stage) + 1, int(block or 0) // GROUP)
