"""The cache of data set indexes, so that millions of files are listed and checked only once."""

import contextlib
import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from keras_convnext.console import console
from keras_convnext.errors import DataError
from keras_convnext.weights.fetch import cache_directory

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def index_directory(source: Path) -> Iterator[Path]:
    """Locks the directory for the index of a data set; it may have an index already.

    The directory is in the package's cache, below `KERAS_HOME`, by default `~/.keras`. If that is
    not writable, a temporary directory is used, with a warning. Files that are memory-mapped from
    it stay readable after it is removed.

    Args:
        source: The data set's folder.

    Yields:
        The directory.

    Example:
        >>> with index_directory(Path("imagenet/train")) as directory:
        ...     index = current_index(directory, Path("imagenet/train"))
    """
    resolved = source.resolve()
    name = hashlib.sha256(str(resolved).encode(errors="surrogateescape")).hexdigest()[:16]
    directory = cache_directory() / "indexes" / name
    try:
        lock = _locked(directory, resolved)
    except OSError as error:
        logger.warning(
            "The index of %s cannot be cached in %s (%s) and will be rebuilt next time. Set "
            "KERAS_HOME to another directory to keep it.",
            source,
            directory.parent,
            error.strerror or error,
        )
        with tempfile.TemporaryDirectory() as temporary:
            copy = Path(temporary) / name
            if directory.is_dir():
                shutil.copytree(directory, copy)
            copy.mkdir(exist_ok=True)
            yield copy
        return
    with lock:
        yield directory


def _locked(directory, source):
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / "lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        console.print(f"Waiting for another process that indexes {source}", soft_wrap=True)
        return lock.acquire()


def replace_directory(directory: Path, write: Callable[[Path], None]) -> None:
    """Replaces a directory atomically.

    Processes that have mapped files of the old directory are not affected.

    Args:
        directory: A path below that of `index_directory`.
        write: Writes the files into an empty directory.

    Raises:
        DataError: If the disk is full or fails otherwise.
    """
    fresh = directory.with_name(f"{directory.name}.new")
    with disk_errors(directory.parent):
        shutil.rmtree(fresh, ignore_errors=True)  # left by a killed process
        fresh.mkdir()
        try:
            write(fresh)
            shutil.rmtree(directory, ignore_errors=True)
            fresh.rename(directory)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


@contextlib.contextmanager
def disk_errors(directory: Path) -> Iterator[None]:
    """Turns an `OSError` in its block into a `DataError`."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"The index of the data cannot be written to {directory}: {error.strerror or error}. "
            f"Free some space there, or set KERAS_HOME to another directory."
        ) from error
