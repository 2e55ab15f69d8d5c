"""A classifier handed to a process of its own, which runs another Keras backend.

What writes a served form of a network needs one framework; a process has one backend only.
"""

import dataclasses
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_convnext.data.preprocessor import Preprocessor
from keras_convnext.serving.predictor import Predictor


def write_under(
    backend: str,
    write: Callable[..., None],
    predictor: Predictor,
    path: Path,
    **arrays: Any,
) -> None:
    """Calls a function under a backend, in another process unless this one runs it.

    Args:
        backend: The Keras backend.
        write: A function of a module of this package, found there by its name; called with what
            follows.
        predictor: The classifier and its classes.
        path: Where to write.
        **arrays: Further arguments, each a NumPy array, or `None` to leave it out.

    Raises:
        RuntimeError: If the other process fails; with what it said.
    """
    arrays = {name: array for name, array in arrays.items() if array is not None}
    if keras.backend.backend() == backend:
        write(predictor, path, **arrays)
        return
    with tempfile.TemporaryDirectory() as directory:
        model_file = Path(directory) / "classifier.keras"
        arrays_file = Path(directory) / "arrays.npz"
        predictor.classifier.save(model_file)
        np.savez(arrays_file, **arrays)
        task = {
            "module": write.__module__,
            "function": write.__name__,
            "model_file": str(model_file),
            "arrays_file": str(arrays_file),
            "class_names": predictor.class_names,
            "preprocessor": dataclasses.asdict(predictor.preprocessor),
            "path": str(path.absolute()),
        }
        process = subprocess.run(
            [sys.executable, "-m", __name__],
            input=json.dumps(task),
            env={**os.environ, "KERAS_BACKEND": backend},
            capture_output=True,
            text=True,
        )
    if process.returncode:
        raise RuntimeError(
            f"The process that writes {path.name} under the {backend} backend failed:\n"
            f"{process.stderr}"
        )


def _take_over() -> None:
    """The other process: reads the task, and writes."""
    task = json.load(sys.stdin)
    model = keras.saving.load_model(task["model_file"], compile=False)
    preprocessor = Preprocessor(**task["preprocessor"])
    predictor = Predictor(model, tuple(task["class_names"]), preprocessor)
    write = getattr(importlib.import_module(task["module"]), task["function"])
    with np.load(task["arrays_file"]) as arrays:
        write(predictor, Path(task["path"]), **arrays)


if __name__ == "__main__":
    _take_over()
