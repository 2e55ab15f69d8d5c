"""Layer-wise learning-rate decay: layers near the image get lower rates. Imports no backend."""

import re
import sys
from collections.abc import Sequence

# How many blocks of a stage share a rate, by the name of the rule.
BLOCKS_OF = {"group": 3, "block": 1, "stage": sys.maxsize}
_PLACE = re.compile(r"(?:^|/)(?:(stem)|stages_(\d+)_(?:downsampling|blocks_(\d+)))/")


def lr_multipliers(paths: Sequence[str], decay: float, rule: str = "group") -> list[float]:
    """Returns the learning-rate multiplier of each weight.

    Adjacent blocks form a group, together with the downsampling before them. The stem is a group
    below them; the final norm, the classifier and all other weights of a model are a group above.
    The multiplier of a group is `decay` to the power of the number of groups above it.

    Args:
        paths: Paths of the weights in the Keras model.
        decay: Factor between neighbouring groups, in (0, 1].
        rule: What forms a group. `"group"`: three blocks of a stage, as in the official
            `optim_factory.py` for depths 3, 3, 27, 3 ("12 groups", table 6) and, for its dense
            tasks, 3, 3, 9, 3. `"block"`: a single block, as in the official code of ConvNeXt V2
            ("single"). `"stage"`: a whole stage. Defaults to `"group"`.

    Example:
        >>> lr_multipliers(["stem/conv/kernel", "stages_0_blocks_2/norm/gamma", "head/kernel"], 0.5)
        [0.25, 0.5, 1.0]
    """
    places = [_place(path, BLOCKS_OF[rule]) for path in paths]
    groups = sorted(set(places))
    return [decay ** (len(groups) - 1 - groups.index(place)) for place in places]


def _place(path: str, blocks_per_group: int) -> tuple[float, int]:
    """Returns the stage, counted from 1 with the stem as 0, and the group within the stage."""
    match = _PLACE.search(path)
    if match is None:
        return float("inf"), 0
    stem, stage, block = match.groups()
    return (0, 0) if stem else (int(stage) + 1, int(block or 0) // blocks_per_group)
