"""The classes of ImageNet in the order of the published classifiers. Imports no backend.

A class is a synset of WordNet: an id such as `n01440764` and synonyms such as "tench, Tinca tinca".
The 1000 classes of ImageNet-1K and the 21841 of ImageNet-22K (the release of fall 2011) are in the
order of their ids, which is the alphabetical order of the folders that their images are distributed
in. 999 of the 1000 are among the 21841: n04399382, the teddy bear, is not.
"""

import collections
import functools
from importlib import resources

# Mean and standard deviation of its RGB values on a scale of 0 to 1. The official code normalizes
# images by them.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
FILES = {1000: "imagenet_1k.tsv", 21841: "imagenet_22k.tsv"}


def synsets(classes: int = 1000) -> tuple[str, ...]:
    """Returns the synset id of every class.

    Args:
        classes: 1000 or 21841.

    Example:
        >>> keras_convnext.imagenet.synsets()[0]
        'n01440764'
    """
    return tuple(synset for synset, _ in _table(classes))


@functools.cache
def class_names(classes: int = 1000) -> tuple[str, ...]:
    """Returns a name for every class; no two are the same.

    The name is the first of the synset's synonyms. If another class has the same first synonym, the
    name is all of them; if even these are the same, the id follows.

    Args:
        classes: 1000 or 21841.

    Example:
        >>> keras_convnext.imagenet.class_names()[0]
        'tench'
    """
    table = _table(classes)
    first = [words.split(", ")[0] for _, words in table]
    times_first = collections.Counter(map(str.lower, first))
    times_all = collections.Counter(words.lower() for _, words in table)
    names = []
    for (synset, words), short in zip(table, first, strict=True):
        if times_first[short.lower()] == 1:
            names.append(short)
        elif times_all[words.lower()] == 1:
            names.append(words)
        else:
            names.append(f"{words} ({synset})")
    return tuple(names)


@functools.cache
def _table(classes):
    if classes not in FILES:
        raise ValueError(
            f"ImageNet-1K has 1000 classes and ImageNet-22K 21841. Received: classes={classes}."
        )
    path = resources.files("keras_convnext") / "assets" / FILES[classes]
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(tuple(line.split("\t")) for line in lines)
