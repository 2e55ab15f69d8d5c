"""Predictions of a classifier for image files and arrays."""

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from keras_convnext.catalog import imagenet
from keras_convnext.catalog.checkpoints import CHECKPOINTS
from keras_convnext.data.bad_images import check_on_bad_image
from keras_convnext.data.pixels import Image, each_image
from keras_convnext.data.preprocessor import Preprocessor, sides
from keras_convnext.errors import DataError, UserError
from keras_convnext.models import is_multi_label, model_from_weights, with_probabilities
from keras_convnext.tasks.base import ServingModel, as_metadata
from keras_convnext.tasks.classification.signature import add_top_classes
from keras_convnext.tasks.prediction_batches import each_output
from keras_convnext.tasks.source import check_checkpoint, resolve
from keras_convnext.text import counted, shortened

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One class and its probability, from 0 to 1.

    The probabilities of all classes add up to 1, except for a multi-label classifier, whose classes
    are independent.

    Example:
        >>> Prediction(label="tabby", probability=0.61)
    """

    label: str
    probability: float


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A classifier, the names of its classes, and the preprocessing of its images.

    Attributes:
        classifier: Model from images `(batch, height, width, channels)`, for RGB and grey values
            from 0 to 255, to probabilities `(batch, classes)`.
        class_names: The names of the classes, in the order of the outputs.
        preprocessor: Brings images to the classifier's size.

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
                (`keras_convnext.list_weights()`), or a `.keras` file; the class names of
                a file are unknown, and classes are named by their numbers.
            checkpoint: Of a run, the `"last"` state, the `"best"` on the validation images, or
                `"best_ema"`, the best of the weights' moving average.

        Raises:
            RunError: If there is no such run or model, or the run kept no average.
            WeightsError: If the published checkpoint cannot be fetched.
            UserError: If there is no such checkpoint, the run is of another task, or the model is
                not a classifier that can be used without further arguments; see `of_model`.
        """
        check_checkpoint(checkpoint)
        predictor = resolve(source).predictor(checkpoint)
        if not isinstance(predictor, cls):
            raise UserError(
                f"The run in {source} is not a classifier. `Predictor` and keras-convnext predict "
                f"are for the task classification; `evaluate` and `export` take runs of any task."
            )
        return predictor

    @classmethod
    def of_published(cls, name: str) -> "Predictor":
        """Returns the predictor of a published checkpoint, by its full name."""
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

        The activation of the last layer determines the meaning of the outputs:

        - no activation: logits, to which softmax is applied;
        - softmax: the probabilities of exclusive classes;
        - sigmoid: the independent probabilities of a multi-label classifier;
        - a single output: the probability of the second of two classes, as with Keras's binary
          labels, from a sigmoid, or as a logit if `class_names` names both classes. Without names a
          single output without activation is refused, since it may be a regression.

        Args:
            model: A functional or sequential classifier of one input, `(batch, height, width,
                channels)`, giving logits or probabilities, `(batch, classes)`.
            class_names: The names of its classes. Defaults to their numbers.
            image_size: Height and width in pixels, one number for both or two. Defaults to those of
                the model's input.
            crop_fraction: The centre crop's share of the resized image; see `Preprocessor`.

        Raises:
            UserError: If the number of names differs from the number of classes, the meaning of the
                outputs is unknown, the model takes no images, or it takes images of any size and
                `image_size` is missing.

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
        """Returns the metadata of an exported classifier, each value as JSON."""
        return as_metadata(
            class_names=self.class_names,
            **dataclasses.asdict(self.preprocessor),
            multi_label=self.multi_label,
        )

    def serving_model(self) -> ServingModel:
        """Returns the classifier as exporters take it, with the output `probabilities`."""
        return ServingModel(
            self.classifier,
            self.preprocessor,
            ("probabilities",),
            self.metadata(),
            add_top_classes,
        )

    def predict(
        self, images: Image | Iterable[Image], top: int = 5, on_bad_image: str = "error"
    ) -> list[list[Prediction]]:
        """Returns the most probable classes of every image, most probable first.

        For a multi-label classifier these are the classes most likely to be present, each with its
        own probability; apply a threshold, such as 0.5, to decide which are present.

        Args:
            images: One image or several: files' paths, files' bytes, images of Pillow's, or arrays
                of shape `(height, width, channels)`; see `Preprocessor`. An array of shape `(batch,
                height, width, channels)` is several. An iterable is read batch by batch, so it may
                give more images than fit into memory.
            top: How many classes; no more than there are.
            on_bad_image: `"error"`, or `"skip"` to return `[]` for a file that is missing or not an
                image, and to log how many there were. Defaults to `"error"`.

        Returns:
            A list of predictions for every image, also if there is only one image.

        Raises:
            DataError: If a file is missing or not an image.
            UserError: If an image is none of these types, or `top` is less than 1.

        Example:
            >>> [[best]] = predictor.predict("cat.jpg", top=1)
            >>> best.label
            'tabby'
        """
        results: list[list[Prediction]] = []
        faults: list[str] = []
        for ranked in self.stream(images, top, on_bad_image):
            if isinstance(ranked, DataError):
                faults.append(str(ranked))
                ranked = []
            results.append(ranked)
        if faults:
            left_out, total = counted(len(faults), "image"), len(results)
            logger.warning("Left out %s of %d: %s", left_out, total, shortened(faults))
        return results

    def stream(
        self, images: Image | Iterable[Image], top: int = 5, on_bad_image: str = "error"
    ) -> Iterator[list[Prediction] | DataError]:
        """Yields what `predict` returns, image by image, with level memory.

        Args:
            images: As in `predict`.
            top: As in `predict`.
            on_bad_image: `"error"`, or `"skip"` to yield the error of a file that is missing or not
                an image in its place. Defaults to `"error"`.

        Raises:
            DataError: If a file is missing or not an image.
            UserError: If an image is none of these types, or `top` is less than 1.

        Example:
            >>> for best in predictor.stream(Path("photos").rglob("*.jpg"), top=1):
            ...     print(best[0].label)
        """
        if top < 1:
            raise UserError(f"`top` must be at least 1. Received: {top!r}.")
        check_on_bad_image(on_bad_image)
        for row in each_output(self.classifier, self.preprocessor, each_image(images)):
            if not isinstance(row, DataError):
                yield self._ranked(row, top)
            elif on_bad_image == "skip":
                yield row
            else:
                raise row

    def _ranked(self, row: np.ndarray, top: int) -> list[Prediction]:
        best = np.argsort(-row, kind="stable")[:top]
        return [Prediction(self.class_names[i], float(row[i])) for i in best]


def image_shape(
    model: keras.Model, image_size: int | tuple[int, int] | None
) -> tuple[int, int, int]:
    """Returns the shape of a model's images, `(height, width, channels)`.

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
