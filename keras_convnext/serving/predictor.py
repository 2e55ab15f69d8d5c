"""A classifier together with all it takes to name what an image file shows."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import keras
import numpy as np

from keras_convnext import imagenet
from keras_convnext.data.preprocessor import Preprocessor
from keras_convnext.errors import RunError, UserError
from keras_convnext.models import model_from_weights, with_probabilities
from keras_convnext.training.run_directory import RunDirectory
from keras_convnext.weights.catalog import CHECKPOINTS, suggestion

BATCH_SIZE = 32
RUN_STATES = ("last", "best", "best_ema")


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
        preprocessor: What brings images to the classifier's size.

    Example:
        >>> predictor = keras_convnext.Predictor.load("convnext_tiny.fb_in1k")
        >>> predictor.predict(["cat.jpg"], top=1)
        [[Prediction(label='tabby', probability=0.61)]]
    """

    classifier: keras.Model
    class_names: tuple[str, ...]
    preprocessor: Preprocessor

    @classmethod
    def load(cls, source: str | Path, checkpoint: str = "last") -> "Predictor":
        """Returns the predictor of a run's directory, a published checkpoint or a `.keras` file.

        Args:
            source: Directory of a run, name of a published checkpoint
                (`keras_convnext.list_weights()`), or a `.keras` file; of a file the class names are
                not known, and classes are called by their numbers.
            checkpoint: Of a run, the `"last"` state, the `"best"` on the validation images, or
                `"best_ema"`, the best of the weights' moving average.

        Raises:
            RunError: If there is no such run or model, or the run kept no average.
            WeightsError: If the published checkpoint cannot be had.
            UserError: If there is no such checkpoint, or the model is no classifier that can be
                used without knowing more; see `of_model`.
        """
        if checkpoint not in RUN_STATES:
            raise UserError(
                f"`checkpoint` must be one of {', '.join(RUN_STATES)}. Received: {checkpoint!r}."
            )
        if str(source) in CHECKPOINTS:
            return cls._of_published(str(source))
        if not RunDirectory.is_run(source):
            return cls.of_model(_load_model(Path(source)))
        run = RunDirectory.open(source)
        data = run.recipe().data
        model = _load_model(run.model(checkpoint))
        preprocessor = Preprocessor(data.image_size, data.crop_fraction, data.apply_orientation)
        return cls(with_probabilities(model), run.class_names(), preprocessor)

    @classmethod
    def _of_published(cls, name: str) -> "Predictor":
        class_names = imagenet.class_names(CHECKPOINTS[name].classes)
        return cls(model_from_weights(name), class_names, Preprocessor.for_weights(name))

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
        return cls(with_probabilities(model), names, Preprocessor(size, crop_fraction))

    def metadata(self) -> dict[str, str]:
        """Returns what an exported network carries along: each value as JSON."""
        values = {"class_names": self.class_names, **dataclasses.asdict(self.preprocessor)}
        return {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}

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
        prepared = [self.preprocessor(image) for image in images]
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


def _load_model(path: Path) -> keras.Model:
    if not path.is_file() or path.suffix != ".keras":
        raise RunError(
            f"{path} is neither the directory of a run, nor a .keras file, nor the name of a "
            f"published checkpoint. A run's directory holds recipe.yaml, and last.keras once its "
            f"first epoch has ended. {suggestion(str(path))}"
        )
    # Not compiled: a file compiled by another backend may hold an optimizer this one cannot read.
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras raises what the file's inside happens to lead to
        raise RunError(f"{path} cannot be loaded as a Keras model: {error}") from error
