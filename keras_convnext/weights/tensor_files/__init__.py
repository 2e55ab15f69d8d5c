"""Named tensors in files: safetensors, PyTorch's, Keras's HDF5. What they mean is not known here.

The kind of a file is told by its first bytes, not by its name. Tensors are read one by one, so that
no more than one of them is in memory beside what is made of them.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from keras_convnext.errors import MissingPackage, WeightsError
from keras_convnext.weights.tensor_files.hdf5_file import Hdf5File, keras_archive
from keras_convnext.weights.tensor_files.pytorch_file import PyTorchFile
from keras_convnext.weights.tensor_files.safetensors_file import (
    SHARDS,
    SafetensorsFile,
    ShardedFile,
)


class TensorFile(Protocol):
    """Tensors of a file: their names with their shapes, and the values one by one.

    Attributes:
        shapes: The name of every tensor to its shape.
        left_out: Sentences that say which other tensors the file holds.
    """

    shapes: dict[str, tuple[int, ...]]
    left_out: list[str]

    def read(self, name: str) -> np.ndarray:
        """Returns the values of one tensor; half precision as `float32`."""


def open_tensor_file(path: Path) -> TensorFile:
    """Opens a file of tensors.

    Raises:
        WeightsError: If it is none, is damaged, or holds anything else than tensors; nothing that
            is in it is ever executed.
        MissingPackage: If it is PyTorch's and PyTorch is not installed.
    """
    try:
        if path.name.endswith(SHARDS):
            return ShardedFile(path, open_tensor_file)
        with path.open("rb") as file:
            start = file.read(128)
        return _kind(path, start)(path)
    except (WeightsError, MissingPackage):
        raise
    except Exception as error:  # each library raises what the file's inside happens to lead to
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise WeightsError(f"{path} is damaged and cannot be read: {reason.rstrip('.')}.") from None


def _kind(path: Path, start: bytes) -> Callable[[Path], TensorFile]:
    if not start:
        raise WeightsError(f"{path} is empty.")
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(
            f"{path} only points to a file kept by Git LFS; `git lfs pull` fetches the file itself."
        )
    # First, since the length of its header may begin as any other file does.
    header = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and 8 + header <= path.stat().st_size:
        return SafetensorsFile
    if start.lstrip()[:1] == b"<":
        raise WeightsError(f"{path} is a web page, not weights: its download went wrong.")
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return Hdf5File
    if start.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if "model.weights.h5" in names:
            return keras_archive
        if any(name.endswith("/data.pkl") for name in names):
            return PyTorchFile
    if start.startswith(b"\x80"):  # a pickle, as PyTorch wrote until version 1.6
        return PyTorchFile
    if start[8:9] == b"{":
        return SafetensorsFile
    raise WeightsError(
        f"{path} holds no weights that can be read. Safetensors, PyTorch's .pth and .bin, and "
        f"Keras's .h5, .weights.h5 and .keras can."
    )
