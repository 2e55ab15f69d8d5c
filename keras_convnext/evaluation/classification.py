"""Evaluates a classifier on labelled images."""

import dataclasses

import keras
import numpy as np
from rich.progress import track

from keras_convnext.console import console


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The predictions of a classifier for every image of a split.

    Attributes:
        labels: The true classes, of shape `(images,)`.
        probabilities: The predicted probabilities, of shape `(images, classes)`.
        class_names: The names of the classes.

    Example:
        >>> evaluation = keras_convnext.evaluate("runs/digits")
        >>> evaluation.top(1), evaluation.confusion.shape
        (0.9944, (10, 10))
    """

    labels: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...]

    @property
    def predictions(self) -> np.ndarray:
        """The most probable class of every image, of shape `(images,)`."""
        return self.probabilities.argmax(axis=-1)

    def top(self, count: int) -> float:
        """Returns the top-`count` accuracy, from 0 to 1."""
        ranked = np.argsort(-self.probabilities, axis=-1)[:, :count]
        return float((ranked == self.labels[:, None]).any(axis=-1).mean())

    @property
    def loss(self) -> float:
        """Mean cross entropy, in nats, without label smoothing."""
        of_truth = self.probabilities[np.arange(len(self.labels)), self.labels]
        return float(-np.log(np.maximum(of_truth, 1e-12)).mean())

    @property
    def confusion(self) -> np.ndarray:
        """Number of images of each true class (rows) predicted as each class (columns)."""
        classes = len(self.class_names)
        pairs = self.labels * classes + self.predictions
        return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)

    @property
    def mistakes(self) -> np.ndarray:
        """Indices of the misclassified images, the most confident mistake first."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        return wrong[np.argsort(-self.probabilities[wrong].max(axis=-1), kind="stable")]

    def summary(self) -> dict[str, float]:
        """Returns the figures that fit on a line, as a dict for JSON."""
        return {
            "images": len(self.labels),
            "top_1": self.top(1),
            "top_5": self.top(5),
            "loss": self.loss,
            "mistakes": len(self.mistakes),
        }


def evaluate_classifier(
    classifier: keras.Model, dataset, class_names: tuple[str, ...]
) -> Evaluation:
    """Evaluates a classifier on labelled images.

    Args:
        classifier: A model from images to probabilities `(batch, classes)`.
        dataset: Batches of images and one-hot labels, in a fixed order.
        class_names: The names of the classes.
    """
    labels, probabilities = [], []
    batches = track(dataset, "Evaluating", total=len(dataset), console=console, transient=True)
    for images, one_hot in batches:
        labels.append(np.argmax(one_hot, axis=-1))
        probabilities.append(classifier.predict_on_batch(np.asarray(images)))
    return Evaluation(
        np.concatenate(labels), np.concatenate(probabilities).astype("float64"), class_names
    )
