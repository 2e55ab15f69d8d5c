"""Converts the values of metrics to JSON and to text."""

import json
from typing import Any

import keras
import numpy as np

NUMBERS_SHOWN = 4  # of a metric with several, in a line of text


def plain(value: Any) -> float | list | str | None:
    """Returns the value of a metric in a form that JSON supports.

    Args:
        value: A number, an array or a tensor of any shape, text or `None`.

    Returns:
        A float for one number, nested lists for several; text and `None` unchanged; the text of any
        other value.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    array = _as_array(value)
    if array.dtype.kind in "biuf":
        return array.astype("float64").tolist()
    return array.astype(str).tolist() if array.dtype.kind in "US" else str(value)


def _as_array(value):
    if keras.ops.is_tensor(value) or isinstance(value, keras.Variable):
        if keras.backend.standardize_dtype(value.dtype) == "bfloat16":
            value = keras.ops.cast(value, "float32")  # TensorFlow has no NumPy form of it
        value = keras.ops.convert_to_numpy(value)
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        return np.asarray(value, object)
    # NumPy has no bfloat16 of its own.
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def greater_is_better(metric: str) -> bool | None:
    """Returns whether greater values of a metric are better; `None` if it is unknown.

    Example:
        >>> greater_is_better("val_accuracy"), greater_is_better("val_loss")
        (True, False)
    """
    if any(word in metric for word in ("loss", "error", "entropy", "divergence")):
        return False
    known = ("acc", "auc", "precision", "recall", "f1", "iou", "score")
    return True if any(word in metric for word in known) else None


def short(value: Any) -> str:
    """Returns the value of a metric as short text; of several numbers, the first few."""
    value = plain(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if not isinstance(value, list):
        return str(value)
    numbers = np.ravel(np.asarray(value, object))
    shown = " ".join(short(number) for number in numbers[:NUMBERS_SHOWN])
    return f"[{shown} ...]" if len(numbers) > NUMBERS_SHOWN else f"[{shown}]"


def as_line(epoch: int, seconds: float, logs: dict[str, Any]) -> bytes:
    """Returns an epoch's line of a metrics file.

    Args:
        epoch: The epoch, counted from 1.
        seconds: The time since the first epoch began.
        logs: The metrics of the epoch.
    """
    row: dict[str, Any] = {"epoch": epoch, "seconds": round(seconds, 3)}
    row |= {name: plain(value) for name, value in logs.items()}
    return f"{json.dumps(row)}\n".encode()
