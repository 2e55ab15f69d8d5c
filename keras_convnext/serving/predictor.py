"""A classifier together with all it takes to name what an image file shows."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_convnext.data.decoding import FORMATS, decode_rgb
from keras_convnext.data.preprocessing import evaluation_image
from keras_convnext.errors import DataError, RunError, UserError
from keras_convnext.models import with_probabilities
from keras_convnext.training.run_directory import RunDirectory

BATCH_SIZE = 32
CHECKPOINTS = ("last", "best")


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One class and how probable it is, from 0 to 1."""

    label: str
    probability: float


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A classifier, the names of its classes, and how images reach its size.

    Attributes:
        classifier: Model from images `(batch, size, size, 3)`, values from 0 to 255, to
            probabilities `(batch, classes)`.
        class_names: The names of the classes, in the order of the outputs.
        image_size: Height and width the classifier takes, in pixels.
        crop_fraction: The centre crop's share of the resized image, below 384 pixels.

    Example:
        >>> predictor = keras_convnext.Predictor.load("runs/digits")
        >>> predictor.predict(["digit.png"], top=1)
        [[Prediction(label='7', probability=0.93)]]
    """

    classifier: keras.Model
    class_names: tuple[str, ...]
    image_size: int
    crop_fraction: float = 0.875

    @classmethod
    def load(cls, source: str | Path, checkpoint: str = "last") -> "Predictor":
        """Returns the predictor of a run's directory or of a `.keras` file.

        Args:
            source: Directory of a run, or a `.keras` file; of a file the class names are not
                known, and classes are called by their numbers.
            checkpoint: Of a run, the `"last"` state or the `"best"` on the validation images.

        Raises:
            RunError: If there is no such run or model.
            UserError: If there is no such checkpoint, or the model is no classifier that can be
                used without knowing more; see `of_model`.
        """
        if checkpoint not in CHECKPOINTS:
            raise UserError(
                f"`checkpoint` must be one of {', '.join(CHECKPOINTS)}. Received: {checkpoint!r}."
            )
        if not RunDirectory.is_run(source):
            return cls.of_model(_load_model(Path(source)))
        run = RunDirectory.open(source)
        data = run.recipe().data
        model = _load_model(run.best_model if checkpoint == "best" else run.last_model)
        return cls(
            with_probabilities(model), run.class_names(), data.image_size, data.crop_fraction
        )

    @classmethod
    def of_model(
        cls,
        model: keras.Model,
        class_names: Sequence[str] | None = None,
        image_size: int | None = None,
        crop_fraction: float = 0.875,
    ) -> "Predictor":
        """Returns the predictor of a model.

        Args:
            model: A functional classifier, giving logits or probabilities.
            class_names: The names of its classes. Defaults to their numbers.
            image_size: Height and width in pixels. Defaults to that of the model's input.
            crop_fraction: The centre crop's share of the resized image, below 384 pixels.

        Raises:
            UserError: If the names are not as many as the classes, or the model takes images that
                are not square, or of any size while none is given.
        """
        classes = model.output_shape[-1]
        names = tuple(class_names or map(str, range(classes)))
        if len(names) != classes:
            raise UserError(
                f"`class_names` must name every class of the model. "
                f"Received {len(names)} names for {classes} classes."
            )
        height, width = model.input_shape[1:3]
        if height != width:
            raise UserError(
                f"{model.name!r} takes images of {height}x{width} pixels; only square ones can be "
                f"prepared for a classifier."
            )
        size = image_size or height
        if size is None:
            raise UserError(
                f"{model.name!r} takes images of any size, so the size to bring them to must be "
                f"given: Predictor.of_model(model, image_size=...), in pixels."
            )
        return cls(with_probabilities(model), names, size, crop_fraction)

    def predict(
        self, images: Iterable[str | Path | np.ndarray], top: int = 5
    ) -> list[list[Prediction]]:
        """Returns the most probable classes of every image, most probable first.

        Args:
            images: Image files, or `uint8` arrays of shape `(height, width, 3)`.
            top: How many classes; no more than there are.

        Raises:
            DataError: If a file is missing or is no image.
        """
        prepared = [self._prepare(image) for image in images]
        if not prepared:
            return []
        probabilities = self.classifier.predict(
            np.stack(prepared), batch_size=BATCH_SIZE, verbose=0
        )
        ranked = np.argsort(-probabilities, axis=-1)[:, :top]
        return [
            [Prediction(self.class_names[i], float(row[i])) for i in best]
            for row, best in zip(probabilities, ranked, strict=True)
        ]

    def _prepare(self, image):
        if not isinstance(image, np.ndarray):
            image = _read_image(Path(image))
        return evaluation_image(image, self.image_size, self.crop_fraction).numpy()


def _read_image(path: Path):
    try:
        return decode_rgb(tf.io.read_file(str(path)))
    except tf.errors.NotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except tf.errors.OpError:
        raise DataError(f"{path} cannot be read as an image. Images may be {FORMATS}.") from None


def _load_model(path: Path) -> keras.Model:
    if not path.is_file() or path.suffix != ".keras":
        raise RunError(
            f"{path} is neither the directory of a run nor a .keras file. A run's directory holds "
            f"recipe.yaml, and last.keras once its first epoch has ended."
        )
    # Not compiled: a file compiled by another backend may hold an optimizer this one cannot read.
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras raises what the file's inside happens to lead to
        raise RunError(f"{path} cannot be loaded as a Keras model: {error}") from error
