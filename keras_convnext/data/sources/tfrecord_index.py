"""Any record of TFRecord files by its number: where each begins, found out once and mapped.

A TFRecord file can only be read from its start, so its records would have to be shuffled in a
buffer. Source of the format: https://www.tensorflow.org/tutorials/load_data/tfrecord.
"""

import itertools
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.progress import track

from keras_convnext.console import console
from keras_convnext.data.sources.index_cache import replace_directory
from keras_convnext.data.sources.shards import numbers_of
from keras_convnext.errors import DataError

VERSION = 1
SCANNING_THREADS = 16
LENGTH, CHECKSUM = 8, 4  # bytes; a record is its length, a checksum of that, the data, a checksum


class TFRecordIndex:
    """The records of some TFRecord files, by file and number.

    Args:
        directory: What `current_tfrecord_index` has filled.
        files: The same files.

    Raises:
        OSError: If there is no index.
        ValueError: If it is damaged, another version's, or of other files.
    """

    def __init__(self, directory: Path, files: Sequence[Path]) -> None:
        description = json.loads((directory / "index.json").read_text())
        if description["version"] != VERSION or description["files"] != _state_of(files):
            raise ValueError("an index of another version, or of files that have changed")
        self._files = [str(file) for file in files]
        self._ends: list[int] = description["ends"]
        self._spans = np.asarray(np.memmap(directory / "spans", np.int64, "r")).reshape(-1, 2)
        if len(self._spans) != self._ends[-1]:
            raise ValueError("an index that was cut off")

    def size_of(self, file: int) -> int:
        """Returns how many records a file has."""
        return len(numbers_of(self._ends, file))

    def read(self, file: int, number: int) -> bytes:
        """Returns a record of a file."""
        start, length = self._spans[numbers_of(self._ends, file)[number]].tolist()
        # Opened every time: thousands of files may be more than a process can keep open.
        descriptor = os.open(self._files[file], os.O_RDONLY)
        try:
            return os.pread(descriptor, length, start)
        finally:
            os.close(descriptor)


def current_tfrecord_index(directory: Path, files: Sequence[Path]) -> TFRecordIndex:
    """Returns the index of TFRecord files, made anew if one of them has changed.

    Args:
        directory: Where the index is kept; see `index_directory`.
        files: The files, at least one.

    Raises:
        DataError: If a file is not whole, or the index cannot be written.
    """
    try:
        return TFRecordIndex(directory, files)
    except (OSError, ValueError):
        replace_directory(directory, lambda fresh: _write(fresh, files))
    return TFRecordIndex(directory, files)


def _state_of(files):
    states = ((file, file.stat()) for file in files)
    return [[file.name, state.st_size, state.st_mtime_ns] for file, state in states]


def _write(directory, files):
    counts = []
    with ThreadPoolExecutor(SCANNING_THREADS) as pool, (directory / "spans").open("wb") as spans:
        found = pool.map(_spans_of, files)
        for of_file in track(
            found, "Indexing records", total=len(files), console=console, transient=True
        ):
            of_file.tofile(spans)
            counts.append(len(of_file))
    ends = list(itertools.accumulate(counts))
    description = {"version": VERSION, "files": _state_of(files), "ends": ends}
    (directory / "index.json").write_text(json.dumps(description))


def _spans_of(file):
    """Returns where the data of every record begins and how long it is, reading lengths only."""
    spans = []
    at, size = 0, file.stat().st_size
    with file.open("rb", buffering=0) as opened:
        while at < size:
            length = int.from_bytes(os.pread(opened.fileno(), LENGTH, at), "little")
            spans.append((at + LENGTH + CHECKSUM, length))
            at += LENGTH + CHECKSUM + length + CHECKSUM
    if at != size:
        raise DataError(
            f"{file} is cut off or no TFRecord file: its last record should end at byte {at:,}, "
            f"but the file has {size:,}. Prepare the data set again."
        )
    return np.array(spans, np.int64).reshape(-1, 2)
