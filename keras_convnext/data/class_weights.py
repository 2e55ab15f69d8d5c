"""Weights of images by class, so that every class contributes equally to the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.progress import track

from keras_convnext.console import console
from keras_convnext.data.sources.folder import FolderSplit
from keras_convnext.data.sources.load import Split
from keras_convnext.errors import DataError
from keras_convnext.text import shortened

if TYPE_CHECKING:
    import tensorflow as tf

LABELS_AT_ONCE = 4096


def balanced_weights(split: Split) -> np.ndarray:
    """Returns each class's weight, images / (classes x images of the class): 1 on average.

    The same as scikit-learn's `compute_class_weight("balanced", ...)`.

    Args:
        split: The training images; none is decoded.

    Returns:
        Weights `float32` of shape `(classes,)`.

    Raises:
        DataError: If a class has no images.
    """
    counts = count_labels(split)
    empty = [split.class_names[place] for place in np.flatnonzero(counts == 0)]
    if empty:
        raise DataError(
            f"data.class_weights cannot balance classes without training images: "
            f"{shortened(empty)}. Add images, or set data.class_weights to null."
        )
    return (counts.sum() / (len(counts) * counts)).astype("float32")


def count_labels(split: Split) -> np.ndarray:
    """Returns the number of images of each class, `int64` of shape `(classes,)`; decodes none."""
    classes = len(split.class_names)
    if isinstance(split, FolderSplit):
        sizes = np.diff(split.index.ends, prepend=0)
        bad = [split.index.class_of(number) for number in split.left_out]
        sizes = sizes - np.bincount(bad, minlength=len(sizes)).astype("int64")
        counts = np.zeros(classes, "int64")
        np.add.at(counts, split.labels, sizes)
        return counts
    import tensorflow as tf

    labels = tf.data.Dataset.range(split.size)
    # TensorFlow prunes the decoding of the image from the graph.
    labels = labels.map(lambda index: split.example(index)[1], tf.data.AUTOTUNE)
    batches = labels.batch(LABELS_AT_ONCE)
    shown = track(batches, "Counting labels", len(batches), console=console, transient=True)
    return np.sum([np.bincount(batch, minlength=classes) for batch in shown], axis=0)


def describe_weights(weights: np.ndarray, class_names: tuple[str, ...]) -> str:
    """Returns the smallest and the largest weight with their classes, as text."""
    least, most = int(weights.argmin()), int(weights.argmax())
    return (
        f"from {weights[least]:.3g} ({class_names[least]}) to {weights[most]:.3g} "
        f"({class_names[most]})"
    )


def with_image_weights(
    batches: tf.data.Dataset, class_weights: np.ndarray, smoothing: float = 0.0
) -> tf.data.Dataset:
    """Returns batches with a weight for every image, as `model.fit` takes them.

    An image has the weight of its class, and a mixture by Mixup or CutMix the weighted mean of its
    classes. The weight multiplies the loss of the whole image and not its terms class by class, so
    the best prediction is still the target, smoothed or mixed. Label smoothing does not enter the
    weights, since it would add the mean of all weights to each of them.

    Args:
        batches: Images, and targets `float32` of shape `(batch, classes)`.
        class_weights: `float32` of shape `(classes,)`.
        smoothing: The fraction of each target that is spread over all classes. Defaults to 0.

    Returns:
        A dataset of images, targets, and weights `float32` of shape `(batch,)`.
    """

    import tensorflow as tf

    def weigh(images, targets):
        weights = tf.linalg.matvec(targets, class_weights)
        weights = (weights - smoothing * class_weights.mean()) / (1 - smoothing)
        return images, targets, weights

    return batches.map(weigh, tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)
