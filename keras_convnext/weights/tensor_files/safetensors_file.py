"""Tensors in safetensors files, one or several beside an index."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 (teaches NumPy bfloat16)
import numpy as np
import safetensors

from keras_convnext.errors import WeightsError

SHARDS = ".safetensors.index.json"
# The types that NumPy has; the other types of safetensors are 8-bit floats and smaller.
NUMBERS = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8")


class SafetensorsFile:
    """One file of safetensors."""

    def __init__(self, path: Path) -> None:
        self.left_out: list[str] = []
        self._path = path
        with safetensors.safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            slices = {name: file.get_slice(name) for name in names}
            self.shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            for name, part in slices.items():
                if part.get_dtype() not in NUMBERS:
                    raise WeightsError(
                        f"{path} cannot be read: its {name!r} is of the type {part.get_dtype()}, "
                        f"which is none of {', '.join(NUMBERS)}."
                    )

    def read(self, name: str) -> np.ndarray:
        # Reopened for every tensor, since pages of a mapped file stay in memory until it is closed.
        with safetensors.safe_open(self._path, framework="numpy") as file:
            return file.get_tensor(name).astype("float32")


class ShardedFile:
    """Several safetensors files in the directory of the index that lists them."""

    def __init__(self, index: Path, open_file: Callable[[Path], Any]) -> None:
        of_name = shards_of(index)
        files = {file: open_file(_existing(index, file)) for file in set(of_name.values())}
        for name, file in of_name.items():
            if name not in files[file].shapes:
                raise WeightsError(f"{index} says that {name} is in {file}, where it is not.")
        self._file_of = {name: files[file] for name, file in of_name.items()}
        self.left_out: list[str] = []
        self.shapes = {name: file.shapes[name] for name, file in self._file_of.items()}

    def read(self, name: str) -> np.ndarray:
        return self._file_of[name].read(name)


def shards_of(index: Path) -> dict[str, str]:
    """Returns the file name of each tensor, from an index.

    Raises:
        WeightsError: If it is not such an index, or names a file in another directory.
    """
    try:
        of_name = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        strange = [file for file in of_name.values() if not re.fullmatch(r"[\w.-]+", file)]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise WeightsError(f"{index} is no index of safetensors files.") from None
    strange += [file for file in of_name.values() if not file.endswith(".safetensors")]
    if strange:
        raise WeightsError(f"{index} names {strange[0]!r}, which is no safetensors file beside it.")
    return of_name


def _existing(index, name):
    path = index.with_name(name)
    if not path.is_file():
        raise WeightsError(f"{path}, which {index.name} names, is missing.")
    return path
