"""Random access to the records of TFRecord files, by an index of where each record begins.

Without an index, a TFRecord file can only be read from its start, and its records can only be
shuffled in a buffer. The format: https://www.tensorflow.org/tutorials/load_data/tfrecord.
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
from keras_convnext.data.sources.shards import indices_of
from keras_convnext.errors import DataError

VERSION = 1
SCANNING_THREADS = 16
LENGTH, CHECKSUM = 8, 4  # bytes; a record is its length, a checksum of that, the data, a checksum


class TFRecordIndex:
    """The records of TFRecord files, by file and index.

    Args:
        directory: The directory that `current_tfrecord_index` has written.
        files: The same files.

    Raises:
        OSError: If there is no index.
        ValueError: If the index is damaged, or of another version or other files.
    """

    def __init__(self, directory: Path, files: Sequence[Path]) -> None:
        description = json.loads((directory / "index.json").read_text())
        if description["version"] != VERSION or description["files"] != _state_of(files):
            raise ValueError("an index of another version, or of files that have changed")
        self._files = [str(file) for file in files]
        self._ends: list[int] = description["ends"]
        self._spans = np.asarray(np.memmap(directory / "spans", np.int64, "r")).reshape(-1, 2)
        if len(self._spans) != self._ends[-1]:
            raise ValueError("an incomplete index")

    def size_of(self, file: int) -> int:
        """Returns the number of records in a file."""
        return len(indices_of(self._ends, file))

    def read(self, file: int, number: int) -> bytes:
        """Returns a record of a file."""
        start, length = self._spans[indices_of(self._ends, file)[number]].tolist()
        # Opened for every read, since a process cannot keep thousands of files open.
        descriptor = os.open(self._files[file], os.O_RDONLY)
        try:
            return os.pread(descriptor, length, start)
        finally:
            os.close(descriptor)


def current_tfrecord_index(directory: Path, files: Sequence[Path]) -> TFRecordIndex:
    """Returns the index of TFRecord files, rebuilt if one of them has changed.

    Args:
        directory: The directory of the index; see `index_directory`.
        files: The files, at least one.

    Raises:
        DataError: If a file is incomplete, or the index cannot be written.
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
    """Returns the start and the length of every record's data; only the lengths are read."""
    spans = []
    at, size = 0, file.stat().st_size
    with file.open("rb", buffering=0) as opened:
        while at < size:
            length = int.from_bytes(os.pread(opened.fileno(), LENGTH, at), "little")
            spans.append((at + LENGTH + CHECKSUM, length))
            at += LENGTH + CHECKSUM + length + CHECKSUM
    if at != size:
        raise DataError(
            f"{file} is incomplete or not a TFRecord file: its last record should end at byte "
            f"{at:,}, but the file has {size:,} bytes. Prepare the data set again."
        )
    return np.array(spans, np.int64).reshape(-1, 2)
