"""Where an index of a data set is kept, so that millions of files are listed and read only once."""

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
    """Gives this process alone the directory for the index of a data set, which may be there yet.

    It lies in the package's cache: below `KERAS_HOME`, by default `~/.keras`. Where that cannot be
    written to, it is a temporary one, with a warning: what was mapped of it stays readable.

    Args:
        source: What the index is of: a folder.

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
            "The index of %s cannot be kept in %s (%s), and will be made again next time. "
            "KERAS_HOME can name another place.",
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
        console.print(f"Waiting for another process that reads {source}", soft_wrap=True)
        return lock.acquire()


def replace_directory(directory: Path, write: Callable[[Path], None]) -> None:
    """Fills a directory anew, wholly or not at all.

    What others have mapped of the one before stays as it was.

    Args:
        directory: Below what `index_directory` gives.
        write: Fills the empty directory that it is given.

    Raises:
        DataError: If there is no room, or another fault of the disk.
    """
    fresh = directory.with_name(f"{directory.name}.new")
    with told_in_a_sentence(directory.parent):
        shutil.rmtree(fresh, ignore_errors=True)  # of a process that was killed
        fresh.mkdir()
        try:
            write(fresh)
            shutil.rmtree(directory, ignore_errors=True)
            fresh.rename(directory)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


@contextlib.contextmanager
def told_in_a_sentence(directory: Path) -> Iterator[None]:
    """Turns what the disk refuses within into a `DataError`."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"The index of the data cannot be written to {directory}: {error.strerror or error}. "
            f"Make room there, or name another place by KERAS_HOME."
        ) from error
