"""Decodes every file of an indexed folder once, so that a bad file does not stop a run later.

TensorFlow decodes them, as in training, or Pillow where TensorFlow is not installed; each has a log
of its own. The results are logged beside the index, one line per class. An interrupted check
resumes where it stopped, and after a change only the classes that changed are checked again.
"""

import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from keras_convnext.console import console
from keras_convnext.data.pixels import FORMATS_IN_WORDS, pixels_of
from keras_convnext.data.sources.folder_index import CHANGED, FolderIndex
from keras_convnext.data.sources.index_cache import disk_errors
from keras_convnext.errors import DataError
from keras_convnext.runtime import has_tensorflow
from keras_convnext.text import counted, printable, shortened

logger = logging.getLogger(__name__)

CHECKING_THREADS = 16
CHUNK_SIZE = 1024  # files per update of the progress bar
# The node and the operation, which TensorFlow adds around the message.
TENSORFLOWS_CONTEXT = re.compile(r"^\{\{.*?\}\}\s*|\s*\[Op:.*", re.DOTALL)


def find_faults(index: FolderIndex, folder: Path, directory: Path) -> dict[int, str]:
    """Decodes the files that were not decoded before, and those that were bad the last time.

    Args:
        index: The folder's index.
        folder: The folder of class folders.
        directory: The directory of the logs of earlier results.

    Returns:
        What is wrong with the files that are not images, by their numbers.

    Raises:
        DataError: If the log cannot be written.
    """
    log = directory / ("checks.jsonl" if has_tensorflow() else "checks_by_pillow.jsonl")
    known = _read(log)
    unchecked = [_unchecked(index, place, known) for place in range(len(index.class_names))]
    faults: dict[int, str] = {}
    with (
        ThreadPoolExecutor(CHECKING_THREADS) as pool,
        disk_errors(directory),
        log.open("a") as file,
        Progress(console=console, transient=True) as progress,
    ):
        total = sum(map(len, unchecked))
        bar = progress.add_task("Checking images", total=total, visible=total > 0)
        for place, numbers in enumerate(unchecked):
            if not numbers:
                continue
            found: dict[int, str] = {}
            for chunk in _chunks(numbers):
                found |= _faults_of(chunk, index, folder, pool)
                progress.advance(bar, len(chunk))
            _write(file, index, place, found)
            faults |= found
    return faults


def _unchecked(index, place, known) -> Sequence[int]:
    """Returns the numbers of a class's files that must be checked."""
    numbers = index.files_of(place)
    times, bad = known.get(index.class_names[place], ({}, []))
    is_unchanged = times == index.times[place] and CHANGED not in times.values()
    return [numbers[one] for one in bad] if is_unchanged else numbers


def _chunks(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    return (numbers[start : start + CHUNK_SIZE] for start in range(0, len(numbers), CHUNK_SIZE))


def _faults_of(numbers, index, folder, pool) -> dict[int, str]:
    paths = [os.path.join(os.fsencode(folder), index.path_of(number)) for number in numbers]
    found = zip(numbers, pool.map(fault_of_file, paths), strict=True)
    return {number: fault for number, fault in found if fault}


def fault_of_file(path: bytes) -> str | None:
    """Returns why a file cannot be read as an image, or `None` if it can."""
    return _fault_by_tensorflow(path) if has_tensorflow() else _fault_by_pillow(path)


def _fault_by_tensorflow(path: bytes) -> str | None:
    import tensorflow as tf

    from keras_convnext.data.transforms.decode import decode_rgb

    try:
        decode_rgb(tf.io.read_file(path), apply_orientation=False)
    except tf.errors.OpError as error:
        return message_of(error)
    return None


def _fault_by_pillow(path: bytes) -> str | None:
    try:
        pixels_of(os.fsdecode(path), 3, apply_orientation=False)
    except DataError as error:
        return str(error).removesuffix(".")
    return None


def message_of(error: Any) -> str:
    """Returns TensorFlow's message in one line, without the context that it adds."""
    return TENSORFLOWS_CONTEXT.sub("", error.message).splitlines()[0].rstrip(". ")


def _read(log):
    """Returns the last entry of every class: its folders' times and its bad files."""
    known = {}
    for line in log.read_text().splitlines() if log.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:  # incomplete, since the process was killed
            continue
        known[entry["class"]] = entry["times"], entry["bad"]
    return known


def _write(file, index, place, found):
    first = index.files_of(place).start
    entry = {
        "class": index.class_names[place],
        "times": index.times[place],
        "bad": [number - first for number in found],
    }
    file.write(f"\n{json.dumps(entry)}")  # newline first, since the last line may be incomplete
    file.flush()


def check_faults(
    index: FolderIndex, faults: dict[int, str], folder: Path, on_bad_image: str
) -> np.ndarray:
    """Refuses the files that are not images, or returns their numbers, sorted, to skip them.

    Args:
        index: The folder's index.
        faults: The result of `find_faults`.
        folder: The folder of class folders.
        on_bad_image: `"error"` to refuse them, `"skip"` to skip them.

    Raises:
        DataError: If files are not images and that is an error, or if a class has no images left.
    """
    bad = np.array(sorted(faults), np.int64)
    paths = [printable(str(folder / os.fsdecode(index.path_of(number)))) for number in bad]
    if len(bad) and on_bad_image == "error":
        raise DataError(
            f"{counted(len(bad), 'file')} of {index.size} cannot be read as images. The first is "
            f"{paths[0]}: {faults[bad[0]]}. Remove them, or leave them out: pass "
            f"data.on_bad_image=skip in training, --on-bad-image skip to other commands, "
            f"on_bad_image='skip' to functions. Images may be {FORMATS_IN_WORDS}."
        )
    if len(bad):
        logger.warning(
            "Left out %s of %d that cannot be read as images: %s.",
            counted(len(bad), "file"),
            index.size,
            shortened(paths),
        )
    sizes = np.diff(index.ends, prepend=0)
    bad_sizes = np.bincount([index.class_of(one) for one in bad], minlength=len(sizes))
    empty = [index.class_names[place] for place in np.flatnonzero(sizes == bad_sizes)]
    if empty:
        raise DataError(
            f"All files of these classes are skipped, since none is an image: {shortened(empty)}."
        )
    return bad
