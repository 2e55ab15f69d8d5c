"""Predictions for image files and folders of them."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.progress import track

from keras_convnext.console import console
from keras_convnext.data.bad_images import check_on_bad_image
from keras_convnext.errors import DataError
from keras_convnext.tasks.classification.predictor import Prediction, Predictor
from keras_convnext.tasks.prediction_batches import BATCH_SIZE
from keras_convnext.text import counted


def predict_files(
    source: str | Path,
    paths: Iterable[str | Path],
    top: int = 5,
    checkpoint: str = "last",
    on_bad_image: str = "error",
) -> list[tuple[Path, list[Prediction]]]:
    """Returns the most probable classes of files and of the files in folders.

    A progress bar is shown if they fill more than one batch.

    Args:
        source: As in `Predictor.load`.
        paths: As in `image_files`.
        top: As in `Predictor.predict`.
        checkpoint: As in `Predictor.load`.
        on_bad_image: `"error"`, or `"skip"` to omit files that are missing or not images, and to
            log their number. Defaults to `"error"`.

    Returns:
        Each file with its predictions.

    Raises:
        UserError: If there is no such model, or one of the files, or with `"skip"` all of them, are
            missing or not images.
    """
    check_on_bad_image(on_bad_image)
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
    """Returns the files among some paths, and the files in the folders among them.

    As in a data set's folders, every file should be an image, names that start with a dot are
    ignored, and subfolders and links are followed.

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
    """Yields the files below a folder, without following a link back to a parent folder."""
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
