"""Predictions or features of image files, one row for each file, with level memory."""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from keras_convnext.data.bad_images import check_on_bad_image
from keras_convnext.errors import DataError
from keras_convnext.tasks.classification.features import feature_model
from keras_convnext.tasks.classification.predictor import Prediction, Predictor
from keras_convnext.tasks.prediction_batches import each_output
from keras_convnext.text import printable


@dataclasses.dataclass(frozen=True)
class Row:
    """What is known of one image file.

    Attributes:
        image: The file's name.
        predictions: Its most probable classes; empty for features.
        features: Its features, `float32` of shape `(channels,)`, or `None` for predictions.
        error: Why it cannot be read, or `None`.
    """

    image: str
    predictions: tuple[Prediction, ...] = ()
    features: np.ndarray | None = None
    error: str | None = None

    def values(self) -> dict[str, float] | list[float]:
        """Returns the probability of each class, or the features."""
        if self.features is not None:
            return self.features.tolist()
        return {one.label: one.probability for one in self.predictions}

    def as_json(self) -> dict:
        """Returns the row as one line of the JSON lines that `predict --output` writes."""
        if self.error is not None:
            return {"image": self.image, "error": self.error}
        if self.features is not None:
            return {"image": self.image, "features": self.features.tolist()}
        ranked = [dataclasses.asdict(one) for one in self.predictions]
        return {"image": self.image, "predictions": ranked}


def prediction_rows(
    predictor: Predictor, files: Iterable[Path], top: int = 5, on_bad_image: str = "error"
) -> Iterator[Row]:
    """Yields the most probable classes of every file.

    Args:
        predictor: The classifier.
        files: The image files.
        top: How many classes.
        on_bad_image: `"error"`, or `"skip"` to yield a row with the error of a bad file.

    Raises:
        DataError: If a file is missing or not an image.
    """
    names: list[Path] = []
    for ranked in predictor.stream(_noted(files, names), top, on_bad_image):
        name = printable(str(names.pop(0)))
        if isinstance(ranked, DataError):
            yield Row(name, error=str(ranked))
        else:
            yield Row(name, tuple(ranked))


def feature_rows(
    predictor: Predictor, files: Iterable[Path], on_bad_image: str = "error"
) -> Iterator[Row]:
    """Yields the features of every file: what the classifier's last dense layer is given.

    Args:
        predictor: The classifier.
        files: The image files.
        on_bad_image: As in `prediction_rows`.

    Raises:
        DataError: If a file is missing or not an image.
        UserError: If the classifier has no such layer.
    """
    check_on_bad_image(on_bad_image)
    model = feature_model(predictor.classifier)
    names: list[Path] = []
    for output in each_output(model, predictor.preprocessor, _noted(files, names)):
        name = printable(str(names.pop(0)))
        if not isinstance(output, DataError):
            yield Row(name, features=output)
        elif on_bad_image == "skip":
            yield Row(name, error=str(output))
        else:
            raise output


def _noted(files: Iterable[Path], names: list[Path]) -> Iterator[Path]:
    """Yields the files, and appends each to the names; they are read ahead of their results."""
    for file in files:
        names.append(file)
        yield file
