"""The SavedModel's outputs for image files, beside the probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf

TOP = 5


def add_top_classes(
    outputs: dict[str, tf.Tensor], metadata: dict[str, Any]
) -> dict[str, tf.Tensor]:
    """Returns the probabilities with the names and scores of the most probable classes.

    Args:
        outputs: `probabilities`, `float32` of shape `(batch, classes)`.
        metadata: `class_names`.

    Returns:
        Also `labels` and `scores`, both `(batch, 5)`, or `(batch, classes)` of fewer classes.
    """
    import tensorflow as tf

    names = tf.constant(metadata["class_names"])
    probabilities = outputs["probabilities"]
    scores, classes = tf.math.top_k(probabilities, min(TOP, len(metadata["class_names"])))
    return {
        "probabilities": probabilities,
        "labels": tf.gather(names, classes),
        "scores": scores,
    }
