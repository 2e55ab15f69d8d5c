"""What lies in a folder, in words, for when it is not what a data set should be."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from keras_convnext.errors import DataError
from keras_convnext.text import counted, shortened

logger = logging.getLogger(__name__)

MOST_LOOKED_AT = 10_000
SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def what_lies_in(folder: Path) -> str:
    """Returns a sentence that names the folders and counts the files directly in a folder."""
    folders, files = _contents(folder)
    parts = [f"the folders {shortened(folders)}"] if len(folders) > 1 else []
    parts += [f"the folder {folders[0]}"] if len(folders) == 1 else []
    parts += [f"{counted(len(files), 'file')}, such as {files[0]}"] if files else []
    return f"{folder.name} holds {' and '.join(parts) or 'nothing'}."


def what_lies_too_deep(folder: Path, classes: Sequence[str]) -> str:
    """Returns what lies in the one class of a folder, for where classes are a level deeper."""
    return f" {what_lies_in(folder / classes[0])}" if len(classes) == 1 else ""


def refuse_wrong_level(folder: Path, classes: Sequence[str], for_training: bool) -> None:
    """Refuses class folders that cannot be the classes, and warns where they may not be.

    Args:
        folder: The folder of class folders.
        classes: Their names.
        for_training: Whether a network is to learn them.

    Raises:
        DataError: If there is one class to train on, or what would be classes are the parts of a
            data set, such as `train` and `val`.
    """
    if for_training and len(classes) == 1:
        (name,) = classes
        raise DataError(
            f"{folder} holds one class, {name}, and a network needs two at least to tell apart. "
            f"{what_lies_in(folder / name)} If the classes lie there, name that folder: for "
            f"{folder / name} pass data.training_split={folder.name}/{name}, and so for "
            f"data.validation_split."
        )
    if _are_splits(folder, classes):
        raise DataError(
            f"{folder} holds the parts of a data set, {shortened(classes)}, and not its classes. "
            f"Name one of the parts, such as {folder / classes[-1]}; for training, data.path names "
            f"the folder of the parts."
        )
    if below := _same_folders_below(folder, classes):
        logger.warning(
            "The classes in %s are its folders %s. They hold no files and each the same folders: "
            "%s. If those are the classes, bring them one level up.",
            folder,
            shortened(classes),
            shortened(below),
        )


def _are_splits(folder, names):
    if len(names) < 2 or not {name.lower() for name in names} <= SPLITS:
        return False
    return all(_contents(folder / name)[0] for name in names)


def _same_folders_below(folder, names):
    first = _contents(folder / names[0])
    if len(names) < 2 or len(first[0]) < 2 or first[1]:
        return []
    return first[0] if all(_contents(folder / name) == first for name in names[1:]) else []


def _contents(folder: Path) -> tuple[list[str], list[str]]:
    """Returns the names of the folders and of the files, sorted; of very many only some."""
    folders: list[str] = []
    files: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            (folders if os.path.isdir(entry) else files).append(entry.name)
            if len(files) == MOST_LOOKED_AT:
                break
    return sorted(folders), sorted(files)
