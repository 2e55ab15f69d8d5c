"""Calls an exporter under the Keras backend that it needs, if necessary in another process.

An exporter needs one framework, and a process has one backend only.
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
from keras_convnext.tasks.base import ServingModel

logger = logging.getLogger(__name__)

LONGEST_FAULT = 200  # characters, since the errors of frameworks may fill pages


def run_with_backend(
    backend: str,
    write: Callable[..., None],
    model: ServingModel,
    path: Path,
    **arrays: Any,
) -> None:
    """Calls an exporter under a backend: in this process if it runs that one, or in another.

    Args:
        backend: The Keras backend.
        write: A function at the top of a module, called with the arguments that follow.
        model: The model to export.
        path: The file or directory to write.
        **arrays: Further arguments, each a NumPy array, or `None` to omit it.

    Raises:
        OSError: If the function raises it, as where a disk is full.
        UserError: If the function fails in any other way, with the first line of its error; the
            rest is logged at level DEBUG.
    """
    arrays = {name: array for name, array in arrays.items() if array is not None}
    if keras.backend.backend() != backend:
        _run_elsewhere(backend, write, model, path, arrays)
        return
    try:
        write(model, path, **arrays)
    except (UserError, OSError):
        raise
    except Exception as error:  # frameworks raise errors of any kind
        raise _failure(path, backend, _first_line(error)) from error


def _run_elsewhere(backend, write, model, path, arrays):
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with write_errors(directory):
            model.network.save(directory / "network.keras")
            np.savez(directory / "arrays.npz", **arrays)
        request = {
            "write": _address(write),
            "directory": name,
            "preprocessor": dataclasses.asdict(model.preprocessor),
            "outputs": model.outputs,
            "metadata": model.metadata,
            "add_file_outputs": _address(model.add_file_outputs),
            "path": str(path.absolute()),
        }
        process = subprocess.run(
            [sys.executable, "-m", __name__],
            input=json.dumps(request),
            env={**os.environ, "KERAS_BACKEND": backend},
            capture_output=True,
            text=True,
            errors="replace",
        )
        if process.returncode:
            logger.debug("The process that failed under %s said:\n%s", backend, process.stderr)
            raise _error_of(process, path, backend, directory / "failure.json")


def _error_of(process, path, backend, failure_file) -> Exception:
    """Returns the error of the other process, to be raised in this one."""
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        return _failure(path, backend, f"it was ended by {name}, as when memory runs out")
    try:
        failure = json.loads(failure_file.read_text())
    except (OSError, ValueError):  # it ended before it wrote one, or the disk was full
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


def _serve_request() -> None:
    """Runs in the other process: reads the request and calls the exporter."""
    request = json.load(sys.stdin)
    directory = Path(request["directory"])
    try:
        _write(request, directory)
    except Exception as error:
        traceback.print_exc()
        (directory / "failure.json").write_text(json.dumps(_described(error)))
        sys.exit(1)


def _write(request, directory):
    model = ServingModel(
        _network(directory / "network.keras"),
        Preprocessor(**request["preprocessor"]),
        tuple(request["outputs"]),
        request["metadata"],
        _function(request["add_file_outputs"]),
    )
    write = _function(request["write"])
    with np.load(directory / "arrays.npz") as arrays:
        write(model, Path(request["path"]), **arrays)


def _address(function):
    """Returns the module and the name of a function, for `_function` in the other process."""
    return None if function is None else (function.__module__, function.__qualname__)


def _function(address):
    if address is None:
        return None
    module, name = address
    return getattr(importlib.import_module(module), name)


def _network(file: Path) -> keras.Model:
    try:
        return keras.saving.load_model(file, compile=False)
    except Exception as error:  # its text is the whole configuration of the network
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
    _serve_request()
