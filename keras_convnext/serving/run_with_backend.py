"""A classifier handed to a process of its own, which runs another Keras backend.

What writes a served form of a network needs one framework; a process has one backend only.
"""

import dataclasses
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_convnext.data.preprocessor import Preprocessor
from keras_convnext.errors import UserError
from keras_convnext.files import write_errors
from keras_convnext.serving.predictor import Predictor

logger = logging.getLogger(__name__)

LONGEST_FAULT = 200  # characters; what frameworks say of a graph may fill pages


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
        OSError: If the function raises it, as where a disk is full.
        UserError: If the function fails in any other way, with the beginning of what it said; the
            rest is logged at level DEBUG.
    """
    arrays = {name: array for name, array in arrays.items() if array is not None}
    if keras.backend.backend() != backend:
        _write_elsewhere(backend, write, predictor, path, arrays)
        return
    try:
        write(predictor, path, **arrays)
    except (UserError, OSError):
        raise
    except Exception as error:  # frameworks raise what they like
        raise _failure(path, backend, _first_line(error)) from error


def _write_elsewhere(backend, write, predictor, path, arrays):
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with write_errors(directory):
            predictor.classifier.save(directory / "classifier.keras")
            np.savez(directory / "arrays.npz", **arrays)
        task = {
            "module": write.__module__,
            "function": write.__name__,
            "directory": name,
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
            errors="replace",
        )
        if process.returncode:
            logger.debug("The process that failed under %s said:\n%s", backend, process.stderr)
            raise _error_of(process, path, backend, directory / "failure.json")


def _error_of(process, path, backend, failure_file) -> Exception:
    """Returns the error that the other process ended with, as it is to be raised here."""
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        return _failure(path, backend, f"it was ended by {name}, as when memory runs out")
    try:
        failure = json.loads(failure_file.read_text())
    except (OSError, ValueError):  # it did not come to write one, or had no room for it
        lines = process.stderr.strip().splitlines() or ["it said nothing"]
        return _failure(path, backend, _shortened(lines[-1]))
    if "strerror" in failure:
        return OSError(failure["errno"], failure["strerror"])
    if "sentence" in failure:
        return UserError(failure["sentence"])
    return _failure(path, backend, failure["fault"])


def _failure(path: Path, backend: str, fault: str) -> UserError:
    return UserError(
        f"{path.name} could not be written under the {backend} backend: {fault.removesuffix('.')}. "
        f"Logging at level DEBUG shows all that was said."
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return _shortened(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_FAULT else f"{text[:LONGEST_FAULT]}..."


def _take_over() -> None:
    """The other process: reads the task, and writes."""
    task = json.load(sys.stdin)
    directory = Path(task["directory"])
    try:
        _write(task, directory)
    except Exception as error:
        traceback.print_exc()
        (directory / "failure.json").write_text(json.dumps(_described(error)))
        sys.exit(1)


def _write(task, directory):
    model = _model(directory / "classifier.keras")
    preprocessor = Preprocessor(**task["preprocessor"])
    predictor = Predictor(model, tuple(task["class_names"]), preprocessor)
    write = getattr(importlib.import_module(task["module"]), task["function"])
    with np.load(directory / "arrays.npz") as arrays:
        write(predictor, Path(task["path"]), **arrays)


def _model(file: Path) -> keras.Model:
    try:
        return keras.saving.load_model(file, compile=False)
    except Exception as error:  # whose text is the network's whole configuration
        first = error
        while isinstance(first.__context__, Exception):
            first = first.__context__
        backend = keras.backend.backend()
        raise UserError(
            f"The network cannot be made in the process that runs {backend} to write it: "
            f"{_first_line(first)} With KERAS_BACKEND={backend} no other process is needed."
        ) from error


def _described(error: Exception) -> dict[str, Any]:
    if isinstance(error, UserError):
        return {"sentence": str(error)}
    if isinstance(error, OSError):
        return {"errno": error.errno, "strerror": error.strerror or _first_line(error)}
    return {"fault": _first_line(error)}


if __name__ == "__main__":
    _take_over()
