"""Predictions for files, from their names to the output."""

import functools
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.progress import track

from keras_convnext.console import console
from keras_convnext.data.bad_images import check_on_bad_image
from keras_convnext.errors import DataError, UserError
from keras_convnext.files import expanded
from keras_convnext.prediction.explain import explained
from keras_convnext.prediction.image_files import count_files, image_files
from keras_convnext.prediction.output import check_output, write_rows
from keras_convnext.prediction.rows import Row, feature_rows, prediction_rows
from keras_convnext.tasks.classification.predictor import Predictor
from keras_convnext.tasks.prediction_batches import BATCH_SIZE
from keras_convnext.text import counted, shortened

logger = logging.getLogger(__name__)

NAMED = 5  # bad images whose names are reported


def predict_files(
    source: str | Path,
    paths: Sequence[str | Path],
    top: int = 5,
    checkpoint: str = "last",
    on_bad_image: str = "error",
    features: bool = False,
    output: str | Path | None = None,
    explain: str | Path | None = None,
) -> Iterator[Row]:
    """Yields the predictions or the features of image files, however many.

    A progress bar is shown if they fill more than one batch. At the end, bad images are reported.

    Args:
        source: As in `Predictor.load`.
        paths: As in `image_files`.
        top: As in `Predictor.predict`.
        checkpoint: As in `Predictor.load`.
        on_bad_image: `"error"`, or `"skip"` to yield the error of a file that is missing or not an
            image. Defaults to `"error"`.
        features: Whether to yield the features instead. Defaults to `False`.
        output: A `.csv`, `.jsonl` or `.parquet` file to write the rows to. Interrupted, the same
            call resumes. Defaults to `None`.
        explain: A directory for pictures of what speaks for the most probable class of each image;
            see `explained`. Defaults to `None`.

    Raises:
        UserError: If there is no such model, or one of the files, or with `"skip"` all of them, are
            missing or not images; or if the output cannot be written.
    """
    check_on_bad_image(on_bad_image)
    if features and explain is not None:
        raise UserError("`explain` draws what speaks for a class, and `features` name none.")
    place = None if output is None else expanded(output)
    if place is not None:
        check_output(place)
    total = count_files(paths)
    predictor = Predictor.load(source, checkpoint)
    if features:
        rows_of = functools.partial(feature_rows, predictor, on_bad_image=on_bad_image)
    else:
        rows_of = functools.partial(prediction_rows, predictor, top=top, on_bad_image=on_bad_image)
    if place is None:
        rows = rows_of(image_files(paths))
    else:
        kind = {"features": True} if features else {"features": False, "top": top}
        settings = {"source": str(source), "checkpoint": checkpoint, **kind}
        rows = write_rows(place, settings, image_files(paths), rows_of)
    if explain is not None:
        rows = explained(rows, predictor, expanded(explain))
    few = total is not None and total <= BATCH_SIZE
    shown = track(rows, "Predicting", total, console=console, transient=True, disable=few)
    yield from _with_summary(shown)


def _with_summary(rows: Iterable[Row]) -> Iterator[Row]:
    """Yields the rows, and then reports how many images could not be read."""
    count, bad = 0, 0
    named: list[str] = []
    for row in rows:
        count += 1
        if row.error is not None:
            bad += 1
            named += [row.error] if len(named) <= NAMED else []
        yield row
    if bad and bad == count:
        raise DataError(f"None of {counted(count, 'file')} can be read as an image.")
    if bad:
        rest = f" and {bad - NAMED} more" if bad > NAMED else ""
        names = shortened(named[:NAMED], NAMED)
        logger.warning("Left out %s of %d: %s%s", counted(bad, "image"), count, names, rest)
