"""The index of a folder of class folders, in memory-mapped files.

ImageNet-22K has 14 million files, whose paths would take gigabytes as Python strings in every
process. Only one class at a time is listed in memory. Its paths are appended to one file, and the
offset of each path to another.
"""

import contextlib
import functools
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import track

from keras_convnext.console import console
from keras_convnext.data.sources.folder_layout import contents_in_words
from keras_convnext.data.sources.index_cache import replace_directory
from keras_convnext.data.sources.shards import indices_of, locate
from keras_convnext.errors import DataError
from keras_convnext.text import counted, shortened

logger = logging.getLogger(__name__)

VERSION = 2
# A folder changed this recently may change again without a new modification time, whose resolution
# is 2 s in the worst case.
TOO_NEW = 2 * 10**9
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif")
CHANGED = -1  # equal to no modification time
ABSENT = 0  # the target of a broken link


class ClassFolder(NamedTuple):
    """The contents of one class folder.

    Attributes:
        name: Name of the folder.
        files: Paths of the files below it, sorted.
        times: Modification times in nanoseconds, by path: of the folder, of every folder below it,
            and of those that links point into.
    """

    name: str
    files: list[str]
    times: dict[str, int]


class FolderIndex:
    """The files of a folder of class folders, by number.

    Args:
        directory: The directory that `write_index` has written.

    Raises:
        OSError: If there is no index.
        ValueError: If the index is damaged or of another version.
    """

    def __init__(self, directory: Path) -> None:
        description = json.loads((directory / "index.json").read_text())
        if description["version"] != VERSION:
            raise ValueError("an index of another version")
        self.time: int = description["time"]
        self.class_names: tuple[str, ...] = tuple(description["classes"])
        self.ends: list[int] = description["ends"]
        self.times: list[dict[str, int]] = description["times"]
        self._starts = np.asarray(np.memmap(directory / "starts", np.int64, "r"))
        self._names = np.asarray(np.memmap(directory / "names", np.uint8, "r"))
        if len(self._starts) != self.size + 1 or self._starts[-1] != len(self._names):
            raise ValueError("an incomplete index")

    @property
    def size(self) -> int:
        """Number of files."""
        return self.ends[-1]

    def files_of(self, place: int) -> range:
        """Returns the numbers of a class's files."""
        return indices_of(self.ends, place)

    def class_of(self, number: int) -> int:
        """Returns the number of a file's class."""
        return locate(self.ends, number)[0]

    def path_of(self, number: int) -> bytes:
        """Returns a file's path below the folder."""
        name = self._names[self._starts[number] : self._starts[number + 1]].tobytes()
        return os.fsencode(self.class_names[self.class_of(number)]) + b"/" + name


def current_index(directory: Path, folder: Path) -> FolderIndex:
    """Returns the index of a folder, rebuilt if the folder or one below it has changed.

    Args:
        directory: The directory of the index; see `index_directory`.
        folder: The folder of class folders.

    Raises:
        DataError: If the folder has no classes, if a class has no files, or if the index cannot be
            written.
    """
    before = _kept(directory)
    if before is not None and _is_current(before, folder):
        return before
    replace_directory(
        directory, lambda fresh: write_index(fresh, list_classes(folder), _time_of(folder))
    )
    return FolderIndex(directory)


def _kept(directory):
    try:
        return FolderIndex(directory)
    except (OSError, ValueError):
        return None


def _is_current(index, folder):
    return index.time == _state_of(folder) and all(
        time == _state_of(folder / path) for times in index.times for path, time in times.items()
    )


def _state_of(path):
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return ABSENT


def _time_of(path):
    changed = _state_of(path)
    return CHANGED if time.time_ns() - changed < TOO_NEW else changed


def list_classes(folder: Path) -> Iterator[ClassFolder]:
    """Lists the class folders of a folder one by one; classes and files are sorted.

    Names that start with a dot are skipped. Files in folders below a class folder belong to the
    class. Links are followed. No folder is listed twice in a class, so links may form cycles. A
    broken link counts as a file, which later cannot be read.

    Raises:
        DataError: If there are no class folders, if one of them has no files, or if there is a
            broken link among them.
    """
    names = _class_names(folder)
    empty = []
    for name in track(names, "Listing images", console=console, transient=True):
        listed = _list_class(folder, name)
        if not listed.files:
            empty.append(name)
        yield listed
    if empty:
        raise DataError(
            f"There are class folders in {folder} without files: {shortened(empty)}. Add images or "
            f"remove the folders."
        )


def _class_names(folder):
    with _readable(folder) as entries:
        seen = [entry for entry in entries if _is_seen(entry)]
    names = sorted(entry.name for entry in seen if _is_folder(entry))
    dangling = sorted(one.name for one in seen if one.is_symlink() and not os.path.exists(one))
    beside = sorted(one.name for one in seen if one.name.lower().endswith(IMAGE_SUFFIXES))
    beside = [name for name in beside if name not in names]
    if names and beside:
        logger.warning(
            "%s in %s outside of the class folders belong to no class and are skipped, such as %s",
            counted(len(beside), "image"),
            folder,
            beside[0],
        )
    if dangling:
        raise DataError(
            f"There are broken links in {folder}: {shortened(dangling)}. Restore their targets, "
            f"such as a disk that is not mounted, or remove them."
        )
    not_text = [name for name in names if _is_no_utf8(name)]
    if not_text:
        raise DataError(
            f"Class names must be UTF-8, since models store them. Rename these folders in "
            f"{folder}: {shortened(ascii(name) for name in not_text)}."
        )
    if not names:
        raise DataError(
            f"The folder {folder} holds no class folders. {contents_in_words(folder)} Put the "
            f"images of each class into its own folder, such as {folder / 'cat'} and "
            f"{folder / 'dog'}."
        )
    return names


def _list_class(folder, name):
    files: list[str] = []
    times: dict[str, int] = {}
    listed = {_identity_of(folder)}
    waiting = [name]
    links: list[str] = []
    if os.path.islink(folder / name):
        _watch_target(folder, name, times)
    while waiting or links:
        if not waiting:  # links last, so that a folder is listed by its own path
            links.sort(reverse=True)
        below = waiting.pop() if waiting else links.pop()
        identity = _identity_of(folder / below)
        if identity in listed:
            continue
        listed.add(identity)
        times[below] = _time_of(folder / below)  # before it is listed, so that no change is missed
        with _readable(folder / below) as entries:
            for entry in filter(_is_seen, entries):
                path = f"{below}/{entry.name}"
                if entry.is_symlink():
                    _watch_target(folder, path, times)
                if _is_folder(entry):
                    (links if entry.is_symlink() else waiting).append(path)
                elif entry.is_symlink() or entry.is_file():
                    files.append(path.removeprefix(f"{name}/"))
    return ClassFolder(name, sorted(files), times)


def _watch_target(folder, path, times):
    """Records the modification time of the folder of a link's target, present or missing."""
    link = folder / path
    target = os.path.join(_real_path(os.fspath(link.parent)), os.readlink(link))
    place = os.path.dirname(os.path.normpath(target))
    if place not in times:
        times[place] = _time_of(place)


@functools.lru_cache(maxsize=1)
def _real_path(folder):
    return os.path.realpath(folder)  # cached for the links of one folder


def _identity_of(folder):
    try:
        state = os.stat(folder)
    except OSError as error:
        raise _unreadable(folder, error) from error
    return state.st_dev, state.st_ino


def _is_no_utf8(name):
    return any(
        "\ud800" <= letter <= "\udfff" for letter in name
    )  # surrogates, which stand for bytes


def _is_folder(entry):
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


@contextlib.contextmanager
def _readable(folder):
    try:
        with os.scandir(folder) as entries:
            yield entries
    except OSError as error:
        raise _unreadable(folder, error) from error


def _unreadable(folder, error):
    return DataError(f"The folder {folder} cannot be read: {error.strerror}.")


def _is_seen(entry):
    return not entry.name.startswith(".")


def write_index(directory: Path, classes: Iterable[ClassFolder], time_of_folder: int) -> None:
    """Writes an index, with one class at a time in memory.

    Args:
        directory: An empty directory.
        classes: The classes, sorted by name.
        time_of_folder: Modification time of the folder of class folders, in nanoseconds.
    """
    names, ends, times = [], [], []
    files = written = 0
    with (directory / "names").open("wb") as all_names, (directory / "starts").open("wb") as starts:
        np.zeros(1, np.int64).tofile(starts)
        for listed in classes:
            encoded = [os.fsencode(file) for file in listed.files]
            all_names.write(b"".join(encoded))
            (written + np.cumsum([len(name) for name in encoded], dtype=np.int64)).tofile(starts)
            written = all_names.tell()
            files += len(encoded)
            names.append(listed.name)
            ends.append(files)
            times.append(listed.times)
    description = {
        "version": VERSION,
        "time": time_of_folder,
        "classes": names,
        "ends": ends,
        "times": times,
    }
    (directory / "index.json").write_text(json.dumps(description))
