"""A classifier together with all it takes to name what an image file shows."""

import dataclasses
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from keras_convnext.catalog import imagenet
from keras_convnext.catalog.checkpoints import CHECKPOINTS, suggestion
from keras_convnext.data.pixels import Image, each_image
from keras_convnext.data.preprocessor import Preprocessor, sides
from keras_convnext.errors import DataError, RunError, UserError
from keras_convnext.files import expanded
from keras_convnext.models import is_multi_label, model_from_weights, with_probabilities
from keras_convnext.runs.directory import RunDirectory
from keras_convnext.serving.batches import in_batches, predict_batch
from keras_convnext.text import counted, shortened

logger = logging.getLogger(__name__)

RUN_STATES = ("last", "best", "best_ema")
ON_BAD_IMAGE = ("error", "skip")


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One class and how probable it is, from 0 to 1.

    The probabilities of all classes add up to 1, unless the classifier is a multi-label one, whose
    classes are independent of each other.
    """

    label: str
    probability: float


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A classifier, the names of its classes, and how images reach its size.

    Attributes:
        classifier: Model from images `(batch, height, width, channels)`, for RGB and grey values
            from 0 to 255, to probabilities `(batch, classes)`.
        class_names: The names of the classes, in the order of the outputs.
        preprocessor: What brings images to the classifier's size.

    Example:
        >>> predictor = keras_convnext.Predictor.load("convnext_tiny.fb_in1k")
        >>> predictor.predict("cat.jpg", top=1)
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
            return cls.of_model(_load_model(expanded(source)))
        run = RunDirectory.open(source)
        data = run.recipe().data
        model = _load_model(run.model(checkpoint))
        preprocessing = run.recipe().preprocessing
        preprocessor = Preprocessor(
            data.image_size,
            data.crop_fraction,
            apply_orientation=data.apply_orientation,
            interpolation=preprocessing.interpolation,
            warp_from=preprocessing.warp_from,
        )
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
        image_size: int | tuple[int, int] | None = None,
        crop_fraction: float = 0.875,
    ) -> "Predictor":
        """Returns the predictor of a model.

        What the last layer is decides what its outputs mean:

        - no activation: logits, of which softmax makes probabilities;
        - softmax: the probabilities of classes of which an image has one;
        - sigmoid: independent probabilities of classes of which an image may have several;
        - a single output: the probability of the second of two classes, as with Keras's binary
          labels, from a sigmoid, or as a logit if `class_names` names both classes. Without names
          a single output that has no activation is refused: it may be a regression's.

        Args:
            model: A functional or sequential classifier of one input, `(batch, height, width,
                channels)`, giving logits or probabilities, `(batch, classes)`.
            class_names: The names of its classes. Defaults to their numbers.
            image_size: Height and width in pixels, one number for both or two. Defaults to those of
                the model's input.
            crop_fraction: The centre crop's share of the resized image; see `Preprocessor`.

        Raises:
            UserError: If the names are not as many as the classes, what the model gives cannot be
                told, or it takes no images, or those of any size while none is given.

        Example:
            >>> model = keras.Sequential([backbone, keras.layers.Dense(1)])
            >>> Predictor.of_model(model, ("cat", "dog")).predict("rex.jpg")
            [[Prediction(label='dog', probability=0.93), Prediction(label='cat', probability=0.07)]]
        """
        binary = class_names is not None and len(class_names) == 2
        classifier = with_probabilities(model, binary)
        classes = classifier.output_shape[-1]
        names = tuple(map(str, range(classes) if class_names is None else class_names))
        if len(names) != classes:
            single = " (a single output tells two apart)" if model.outputs[0].shape[-1] == 1 else ""
            raise UserError(
                f"`class_names` must name every class of the model. "
                f"Received {len(names)} names for {classes} classes{single}."
            )
        shape = image_shape(classifier, image_size)
        return cls(classifier, names, Preprocessor(shape[:2], crop_fraction, shape[2]))

    @property
    def multi_label(self) -> bool:
        """Whether the probabilities are independent, so that an image may have several classes."""
        return is_multi_label(self.classifier)

    def metadata(self) -> dict[str, str]:
        """Returns what an exported network carries along: each value as JSON."""
        values = {
            "class_names": self.class_names,
            **dataclasses.asdict(self.preprocessor),
            "multi_label": self.multi_label,
        }
        return {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}

    def predict(
        self, images: Image | Iterable[Image], top: int = 5, on_bad_image: str = "error"
    ) -> list[list[Prediction]]:
        """Returns the most probable classes of every image, most probable first.

        Of a multi-label classifier these are the classes most likely to be present, each with its
        own probability; which are present is a matter of a threshold, such as 0.5.

        Args:
            images: One image or several: files' paths, files' bytes, images of Pillow's, or arrays
                of shape `(height, width, channels)`; see `Preprocessor`. An array of shape `(batch,
                height, width, channels)` is several. An iterable is read batch by batch, so it may
                give more images than fit into memory.
            top: How many classes; no more than there are.
            on_bad_image: `"error"`, or `"skip"` to give no predictions, `[]`, for a file that is
                missing or is no image, and to log how many there were.

        Returns:
            A list for every image, of one image too.

        Raises:
            DataError: If a file is missing or is no image.
            UserError: If an image is nothing of the above, or `top` is less than 1.

        Example:
            >>> [[best]] = predictor.predict("cat.jpg", top=1)
            >>> best.label
            'tabby'
        """
        if top < 1:
            raise UserError(f"`top` must be at least 1. Received: {top!r}.")
        if on_bad_image not in ON_BAD_IMAGE:
            raise UserError(
                f"`on_bad_image` must be one of {', '.join(ON_BAD_IMAGE)}. "
                f"Received: {on_bad_image!r}."
            )
        results: list[list[Prediction]] = []
        faults: list[str] = []
        for batch in in_batches(each_image(images)):
            prepared = [self._prepared(image, on_bad_image, faults) for image in batch]
            rows = self._ranked([image for image in prepared if image is not None], top)
            results += [[] if image is None else next(rows) for image in prepared]
        if faults:
            left_out, total = counted(len(faults), "image"), len(results)
            logger.warning("Left out %s of %d: %s", left_out, total, shortened(faults))
        return results

    def _prepared(self, image, on_bad_image, faults) -> np.ndarray | None:
        try:
            return self.preprocessor(image)
        except DataError as error:
            if on_bad_image == "error":
                raise
            faults.append(str(error))
            return None

    def _ranked(self, prepared, top) -> Iterator[list[Prediction]]:
        """Gives the predictions for each of some prepared images."""
        for row in predict_batch(self.classifier, prepared) if prepared else ():
            best = np.argsort(-row, kind="stable")[:top]
            yield [Prediction(self.class_names[i], float(row[i])) for i in best]


def image_shape(
    model: keras.Model, image_size: int | tuple[int, int] | None
) -> tuple[int, int, int]:
    """Returns the shape of one image that a model takes, `(height, width, channels)`.

    Args:
        model: A functional or sequential model.
        image_size: Height and width where the model takes any, one number for both or two.

    Raises:
        UserError: If it takes no images, or `image_size` is missing or does not fit.
    """
    shape = model.input_shape
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[-1] is None:
        raise UserError(
            f"{model.name!r} must take images, one input of shape (batch, height, width, "
            f"channels). Received: {shape}."
        )
    _, height, width, channels = shape
    if height in (1, 3, 4) and channels > 4:
        raise UserError(
            f"{model.name!r} takes images with their channels first, {shape}; only models that "
            f"take (batch, height, width, channels) can be used here."
        )
    if image_size is None:
        if None in (height, width):
            raise UserError(
                f"{model.name!r} takes images of any size, so the size to bring them to must be "
                f"given: Predictor.of_model(model, image_size=...), in pixels."
            )
        return height, width, channels
    wanted = sides(image_size)
    if wanted[0] != (height or wanted[0]) or wanted[1] != (width or wanted[1]):
        raise UserError(
            f"{model.name!r} takes images of {height or 'any'}x{width or 'any'} pixels, height by "
            f"width. Received: image_size={image_size!r}."
        )
    return (*wanted, channels)


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
