"""Every file of an indexed folder decoded once, so that no bad one stops a training that has begun.

What was found is kept in a log beside the index, one line a class: an interrupted check goes on
where it was, and after a change only the classes that changed are checked again.
"""

import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf
from rich.progress import Progress

from keras_convnext.console import console
from keras_convnext.data.sources.folder_index import CHANGED, FolderIndex
from keras_convnext.data.sources.index_cache import told_in_a_sentence
from keras_convnext.data.transforms.decode import FORMATS, decode_rgb
from keras_convnext.errors import DataError
from keras_convnext.text import counted, printable, shortened

logger = logging.getLogger(__name__)

CHECKING_THREADS = 16
CHUNK = 1024  # files whose results are waited for at once
# The node and the operation that TensorFlow puts around what was wrong.
TENSORFLOWS_CONTEXT = re.compile(r"^\{\{.*?\}\}\s*|\s*\[Op:.*", re.DOTALL)


def find_faults(index: FolderIndex, folder: Path, log: Path) -> dict[int, str]:
    """Decodes the files that were never decoded, and those that were bad the last time.

    Args:
        index: The folder's index.
        folder: The folder of class folders.
        log: Where the results are kept.

    Returns:
        By the numbers of the files that are no images, what is wrong with them.

    Raises:
        DataError: If the log cannot be written.
    """
    known = _read(log)
    unchecked = [_unchecked(index, place, known) for place in range(len(index.class_names))]
    faults: dict[int, str] = {}
    with (
        ThreadPoolExecutor(CHECKING_THREADS) as pool,
        told_in_a_sentence(log.parent),
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
    """Returns the numbers of a class's files that have to be looked at."""
    numbers = index.files_of(place)
    times, bad = known.get(index.class_names[place], ({}, []))
    is_unchanged = times == index.times[place] and CHANGED not in times.values()
    return [numbers[one] for one in bad] if is_unchanged else numbers


def _chunks(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    return (numbers[start : start + CHUNK] for start in range(0, len(numbers), CHUNK))


def _faults_of(numbers, index, folder, pool) -> dict[int, str]:
    paths = [os.path.join(os.fsencode(folder), index.path_of(number)) for number in numbers]
    found = zip(numbers, pool.map(fault_of_file, paths), strict=True)
    return {number: fault for number, fault in found if fault}


def fault_of_file(path: bytes) -> str | None:
    """Says in words what keeps a file from being read as an image, if anything does."""
    try:
        decode_rgb(tf.io.read_file(path), apply_orientation=False)
    except tf.errors.OpError as error:
        return in_a_line(error)
    return None


def in_a_line(error: tf.errors.OpError) -> str:
    """Returns what TensorFlow found wrong, without its own context."""
    return TENSORFLOWS_CONTEXT.sub("", error.message).splitlines()[0].rstrip(". ")


def _read(log):
    """Returns what the log says last of every class: its folders' times and its bad files."""
    known = {}
    for line in log.read_text().splitlines() if log.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:  # cut off, when the process was killed
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
    file.write(f"\n{json.dumps(entry)}")  # a new line first: the last one may have been cut off
    file.flush()


def numbers_to_leave_out(
    index: FolderIndex, faults: dict[int, str], folder: Path, on_bad_image: str
) -> np.ndarray:
    """Returns the numbers of the files that are no images, sorted, if they may be left out.

    Args:
        index: The folder's index.
        faults: What `find_faults` has found.
        folder: The folder of class folders.
        on_bad_image: `"error"` to refuse files that are no images, `"skip"` to leave them out.

    Raises:
        DataError: If a file is no image and that is an error, or a class has none left.
    """
    bad = np.array(sorted(faults), np.int64)
    paths = [printable(str(folder / os.fsdecode(index.path_of(number)))) for number in bad]
    if len(bad) and on_bad_image == "error":
        raise DataError(
            f"{counted(len(bad), 'file')} of {index.size} cannot be read as images. The first is "
            f"{paths[0]}: {faults[bad[0]]}. Remove them, or leave them out: pass "
            f"data.on_bad_image=skip in training, --on-bad-image skip to other commands, "
            f"on_bad_image='skip' to functions. Images may be {FORMATS}."
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
            f"Without the files that are no images, no files are left of the classes: "
            f"{shortened(empty)}."
        )
    return bad
