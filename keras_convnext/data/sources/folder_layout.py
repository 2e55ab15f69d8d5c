"""Checks the layout of a folder of class folders, and describes a folder in error messages."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from keras_convnext.errors import DataError
from keras_convnext.text import counted, shortened

logger = logging.getLogger(__name__)

MOST_FILES = 10_000  # listed in a folder for a message
SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def contents_in_words(folder: Path) -> str:
    """Returns a sentence with the folders and the number of files directly in a folder."""
    folders, files = _contents(folder)
    parts = [f"the folders {shortened(folders)}"] if len(folders) > 1 else []
    parts += [f"the folder {folders[0]}"] if len(folders) == 1 else []
    parts += [f"{counted(len(files), 'file')}, such as {files[0]}"] if files else []
    return f"{folder.name} holds {' and '.join(parts) or 'nothing'}."


def contents_of_single_class(folder: Path, classes: Sequence[str]) -> str:
    """Describes the only class of a folder, since the classes may be one level deeper."""
    return f" {contents_in_words(folder / classes[0])}" if len(classes) == 1 else ""


def check_level(folder: Path, classes: Sequence[str], for_training: bool) -> None:
    """Refuses folders that cannot be classes, and warns if they may not be.

    Args:
        folder: The folder of class folders.
        classes: Names of the class folders.
        for_training: Whether to train on them.

    Raises:
        DataError: If there is only one class to train on, or if the folders are the splits of a
            data set, such as `train` and `val`.
    """
    if for_training and len(classes) == 1:
        (name,) = classes
        raise DataError(
            f"{folder} holds one class, {name}; training needs at least two. "
            f"{contents_in_words(folder / name)} If these are the classes, pass the folder above "
            f"them: data.training_split={folder.name}/{name}, and data.validation_split likewise."
        )
    if _are_splits(folder, classes):
        raise DataError(
            f"{folder} holds the splits of a data set, {shortened(classes)}, not its classes. Pass "
            f"one of the splits, such as {folder / classes[-1]}; for training, pass the folder of "
            f"the splits as data.path."
        )
    if below := _same_folders_below(folder, classes):
        logger.warning(
            "The classes in %s are its folders %s. None of them holds files, and all hold the same "
            "folders: %s. If those are the classes, move them one level up.",
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
    """Returns the names of the folders and of up to `MOST_FILES` files, sorted."""
    folders: list[str] = []
    files: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            (folders if os.path.isdir(entry) else files).append(entry.name)
            if len(files) == MOST_FILES:
                break
    return sorted(folders), sorted(files)
