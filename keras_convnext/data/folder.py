"""A folder of images, one folder a class: what is in it, and everything it can hold wrongly."""

import logging
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tensorflow as tf
from rich.progress import track

from keras_convnext.console import console
from keras_convnext.data.decoding import FORMATS, decode_rgb
from keras_convnext.errors import DataError

logger = logging.getLogger(__name__)

CHECKING_THREADS = 16
# The node and the operation that TensorFlow puts around what was wrong.
TENSORFLOWS_CONTEXT = re.compile(r"^\{\{.*?\}\}\s*|\s*\[Op:.*", re.DOTALL)


def existing(path: str | Path) -> Path:
    """Returns the folder, or raises a `DataError` if there is none."""
    folder = Path(path)
    if not folder.is_dir():
        raise DataError(
            f"There is no folder {folder}. A data set of images is a folder that holds train/ and "
            f"val/, and in each of them one folder for every class."
        )
    return folder


def list_classes(folder: Path) -> dict[str, list[str]]:
    """Returns the files of every class, both sorted; names that start with a dot are left out.

    Raises:
        DataError: If there are no class folders, or one of them is empty.
    """
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and _seen(entry))
    if not classes:
        raise DataError(
            f"The folder {folder} holds no class folders. Put the images of every class into a "
            f"folder of its own, such as {folder / 'cat'} and {folder / 'dog'}."
        )
    files_of = {entry.name: _files_below(entry) for entry in classes}
    empty = [name for name, files in files_of.items() if not files]
    if empty:
        raise DataError(
            f"There are class folders in {folder} without files: {_shortened(empty)}. Add images "
            f"or remove the folders."
        )
    return files_of


def refuse_unknown_classes(
    folder: str | Path, classes: Iterable[str], known: tuple[str, ...]
) -> None:
    """Raises a `DataError` if the folder holds a class that the network does not know."""
    unknown = [name for name in classes if name not in known]
    if unknown:
        raise DataError(
            f"{folder} holds classes that the training images lack: {_shortened(unknown)}. The "
            f"classes trained on are: {_shortened(known)}."
        )


def check_images(files_of: dict[str, list[str]], on_bad_image: str) -> dict[str, list[str]]:
    """Decodes every file once, so that no bad one stops a training that has begun.

    Args:
        files_of: The files of every class.
        on_bad_image: `"error"` to refuse files that are no images, `"skip"` to leave them out.

    Returns:
        The files of every class that are images.

    Raises:
        DataError: If a file is no image and that is an error, or a class has none left.
    """
    files = [file for of_class in files_of.values() for file in of_class]
    with ThreadPoolExecutor(CHECKING_THREADS) as pool:
        faults = list(
            track(
                pool.map(_fault, files),
                description="Checking images",
                total=len(files),
                console=console,
                transient=True,
            )
        )
    bad = {file: fault for file, fault in zip(files, faults, strict=True) if fault}
    if not bad:
        return files_of
    if on_bad_image == "error":
        first, fault = next(iter(bad.items()))
        raise DataError(
            f"{_counted(len(bad), 'file')} of {len(files)} cannot be read as images. The first is "
            f"{first}: {fault}. Remove them, or pass data.on_bad_image=skip to leave them out. "
            f"Images may be {FORMATS}."
        )
    logger.warning(
        "Left out %s of %d that cannot be read as images: %s.",
        _counted(len(bad), "file"),
        len(files),
        _shortened(bad),
    )
    good = {name: [file for file in of if file not in bad] for name, of in files_of.items()}
    empty = [name for name, of_class in good.items() if not of_class]
    if empty:
        raise DataError(
            f"Without the files that are no images, no files are left of the classes: "
            f"{_shortened(empty)}."
        )
    return good


def _fault(file: str) -> str | None:
    """Says in words what keeps a file from being read as an image, if anything does."""
    try:
        decode_rgb(tf.io.read_file(file))
    except tf.errors.OpError as error:
        return TENSORFLOWS_CONTEXT.sub("", error.message).splitlines()[0].rstrip(". ")
    return None


def _files_below(folder: Path) -> list[str]:
    return sorted(
        str(path)
        for path in folder.rglob("*")
        if path.is_file() and all(_seen(Path(part)) for part in path.relative_to(folder).parts)
    )


def _seen(path: Path) -> bool:
    return not path.name.startswith(".")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _shortened(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
