"""Predictions for image files that a person names, one by one or by the folder."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.progress import track

from keras_convnext.console import console
from keras_convnext.errors import DataError
from keras_convnext.serving.batches import BATCH_SIZE
from keras_convnext.serving.predictor import Prediction, Predictor
from keras_convnext.text import counted


def predict_files(
    source: str | Path,
    paths: Iterable[str | Path],
    top: int = 5,
    checkpoint: str = "last",
    on_bad_image: str = "error",
) -> list[tuple[Path, list[Prediction]]]:
    """Returns the most probable classes of files and of the files in folders, with their names.

    A progress bar shows where there are more than a batch of them.

    Args:
        source: As in `Predictor.load`.
        paths: As in `image_files`.
        top: As in `Predictor.predict`.
        checkpoint: As in `Predictor.load`.
        on_bad_image: `"error"`, or `"skip"` to leave out files that are missing or are no images,
            whose number is logged.

    Raises:
        UserError: If there is no such model, or files are missing or are no images: one of them,
            or all.
    """
    files = image_files(paths)
    predictor = Predictor.load(source, checkpoint)
    shown = track(
        files, "Predicting", console=console, transient=True, disable=len(files) <= BATCH_SIZE
    )
    ranked = predictor.predict(shown, top, on_bad_image)
    results = [(file, best) for file, best in zip(files, ranked, strict=True) if best]
    if not results:
        raise DataError(f"None of {counted(len(files), 'file')} can be read as an image.")
    return results


def image_files(paths: Iterable[str | Path]) -> list[Path]:
    """Returns the files among some paths, and those in the folders among them.

    As in a data set's folders, every file is meant to be an image, names that start with a dot are
    left out, and folders below and links are followed.

    Args:
        paths: Files, which need not exist, and folders.

    Returns:
        The files, those of each folder sorted.

    Raises:
        DataError: If a folder holds no files or cannot be read.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        found = sorted(_files_in(path, ())) if path.is_dir() else [path]
        if not found:
            raise DataError(f"The folder {path} holds no files.")
        files += found
    return files


def _files_in(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """Gives the files below a folder, but not those in a link back to a folder above."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror}.") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _files_in(entry, (*above, real))
        else:
            yield entry
