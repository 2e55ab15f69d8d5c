"""Atomic writes: a file is complete or absent, even if the process or the machine stops."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from keras_convnext.errors import RunError, UserError

PARTIAL = ".partial-"
# In a partial directory: the names that `atomic_writes` is about to give, as JSON.
NAMES = ".names"


class WriteError(OSError, UserError):
    """A file cannot be written; `filename` is the file, not its temporary place."""

    def __str__(self) -> str:
        return f"{self.filename} cannot be written: {self.strerror}."


def expanded(path: str | os.PathLike) -> Path:
    """Returns a path with `~` expanded, since shells do not expand it in `data.path=~/x`."""
    return Path(os.path.expanduser(path))


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path; when the block ends, the file there replaces `path` atomically.

    If the block fails, `path` stays as it was.

    Raises:
        WriteError: If it cannot be written.

    Example:
        >>> with atomic_write(Path("model.keras")) as written:
        ...     model.save(written)
    """
    with write_errors(path), _partial_directory(path.parent) as directory:
        written = directory / path.name
        yield written
        # Otherwise a power failure could leave the new name with incomplete contents.
        _sync(written)
        os.replace(written, path)


@contextlib.contextmanager
def atomic_writes(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Yields temporary paths for files that belong together; all are renamed, or none.

    The temporary files are in one directory. They are renamed in the order of `paths`, so the file
    that refers to the others should come last.

    Args:
        *paths: The files, all in one directory. None of them may exist.

    Raises:
        WriteError: If one of them cannot be written.

    Example:
        >>> with atomic_writes(Path("model.bin"), Path("model.xml")) as (weights, network):
        ...     openvino.serialize(model, network, weights)
    """
    with write_errors(paths[-1]), _partial_directory(paths[0].parent) as directory:
        written = tuple(directory / path.name for path in paths)
        yield written
        (directory / NAMES).write_text(json.dumps([path.name for path in paths]))
        for file in (*written, directory / NAMES):
            _sync(file)
        with contextlib.ExitStack() as undo:
            for file, path in zip(written, paths, strict=True):
                os.replace(file, path)
                undo.callback(path.unlink)
            undo.pop_all()


def undo_interrupted(path: Path) -> None:
    """Removes the files of `atomic_writes` if its process was killed between two of the names.

    Args:
        path: Any of the files.
    """
    for directory in path.parent.glob(f"{PARTIAL}*"):
        if path.name in _names_to_give(directory):
            _remove_partial_directory(directory)


def _names_to_give(directory: Path) -> list[str]:
    try:
        return json.loads((directory / NAMES).read_text())
    except (OSError, ValueError):  # another kind of write, or a kill before any name was given
        return []


def _remove_partial_directory(directory: Path) -> None:
    names = _names_to_give(directory)
    if names and (directory / names[-1]).exists():  # killed before the last name was given
        for name in names:
            if not (directory / name).exists():
                (directory.parent / name).unlink(missing_ok=True)
    shutil.rmtree(directory)


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yields an empty directory, which is renamed to `path` when the block ends.

    If the block fails, the directory is removed.

    Args:
        path: The directory. It may exist only if it is empty.

    Raises:
        WriteError: If it cannot be written.

    Example:
        >>> with atomic_directory(Path("saved_model")) as written:
        ...     archive.write_out(written)
    """
    with write_errors(path), _partial_directory(path.parent) as directory:
        written = directory / path.name
        written.mkdir()
        yield written
        for inside in written.rglob("*"):
            if inside.is_file():
                _sync(inside)
        os.replace(written, path)


@contextlib.contextmanager
def _partial_directory(parent: Path) -> Iterator[Path]:
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=parent) as directory:
        yield Path(directory)


def _sync(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically, in UTF-8.

    Raises:
        WriteError: If it cannot be written; an earlier file stays.
    """
    with atomic_write(path) as written:
        written.write_text(text, encoding="utf-8")


def append(path: Path, data: bytes) -> None:
    """Appends to a file; the data is on the disk when this returns.

    Raises:
        WriteError: If it cannot be written; the file stays as it was.
    """
    with write_errors(path), path.open("ab", buffering=0) as file:
        end = file.tell()
        try:
            rest = memoryview(data)
            while rest:  # a full disk may accept a part first
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(end)
            raise


def link(source: Path, path: Path) -> None:
    """Links a file to another path, which it replaces; copies it if links are not supported.

    Raises:
        WriteError: If it cannot be written; an earlier file stays.
    """
    with atomic_write(path) as written:
        try:
            os.link(source, written)
        except OSError:
            shutil.copyfile(source, written)


def remove_partial(directory: Path) -> None:
    """Removes the temporary files that a killed process left in a directory."""
    for path in directory.glob(f"{PARTIAL}*"):
        _remove_partial_directory(path)


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turns an `OSError` in its block into a `WriteError` that names `path`.

    Raises:
        WriteError: If there is an `OSError`.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(error.errno, error.strerror or str(error), str(path)) from error


def check_absent(path: Path, kind: str = "file") -> None:
    """Raises a `RunError` if the path of a new file or directory exists already."""
    if path.exists():
        raise RunError(f"{path} exists already; remove it, or choose another {kind}.")
