"""Finds image files: by name, in folders, by patterns, and by names on standard input."""

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from keras_convnext.errors import DataError

STANDARD_INPUT = "-"


def image_files(paths: Iterable[str | Path]) -> Iterator[Path]:
    """Yields the files that some paths stand for, those of each folder and pattern sorted.

    As in a data set's folders, every file should be an image, names that start with a dot are
    ignored, and subfolders and links are followed.

    Args:
        paths: Files, which need not exist; folders; patterns such as `photos/**/*.jpg`, for shells
            that do not expand them; and `-`, one name a line on standard input.

    Raises:
        DataError: If a folder holds no files or cannot be read, or nothing matches a pattern.
    """
    for path in map(str, paths):
        if path == STANDARD_INPUT:
            yield from (Path(name) for line in sys.stdin if (name := line.rstrip("\r\n")))
        elif os.path.isdir(path):
            yield from _at_least_one(_files_in(Path(path), ()), f"The folder {path} holds no files")
        elif glob.has_magic(path) and not os.path.lexists(path):
            matches = map(Path, sorted(glob.iglob(path, recursive=True)))
            files = (match for match in matches if not match.is_dir())
            yield from _at_least_one(files, f"No file matches {path}")
        else:
            yield Path(path)


def count_files(paths: Iterable[str | Path]) -> int | None:
    """Returns the number of files that `image_files` yields; `None` with standard input.

    Raises:
        DataError: As `image_files` does.
    """
    paths = list(paths)
    return None if STANDARD_INPUT in map(str, paths) else sum(1 for _ in image_files(paths))


def _at_least_one(files: Iterator[Path], otherwise: str) -> Iterator[Path]:
    first = next(files, None)
    if first is None:
        raise DataError(f"{otherwise}.")
    yield first
    yield from files


def _files_in(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """Yields the files below a folder, sorted, without following a link back to a parent folder."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror}.") from error
    for name in names:
        path = folder / name
        if name.startswith("."):
            continue
        if path.is_dir():
            yield from _files_in(path, (*above, real))
        else:
            yield path
