"""Named tensors in files of safetensors, PyTorch and Keras (HDF5), whatever their names mean.

The first bytes of a file decide its kind, and not its name. Tensors are read one at a time, so that
only one of them is in memory beside the weights of the model.
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
    """The tensors of a file.

    Attributes:
        shapes: The shape of every tensor, by its name.
        left_out: Sentences about other tensors in the file that are not read.
    """

    shapes: dict[str, tuple[int, ...]]
    left_out: list[str]

    def read(self, name: str) -> np.ndarray:
        """Returns the values of one tensor; half precision as `float32`."""


def open_tensor_file(path: Path) -> TensorFile:
    """Opens a file of tensors.

    Raises:
        WeightsError: If it is of another kind, is damaged, or holds anything but tensors. Code in a
            file is never executed.
        MissingPackage: If it is a file of PyTorch and PyTorch is not installed.
    """
    try:
        if path.name.endswith(SHARDS):
            return ShardedFile(path, open_tensor_file)
        with path.open("rb") as file:
            start = file.read(128)
        return _kind(path, start)(path)
    except (WeightsError, MissingPackage):
        raise
    except Exception as error:  # each library raises errors of many kinds on damaged files
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise WeightsError(f"{path} is damaged and cannot be read: {reason.rstrip('.')}.") from None


def _kind(path: Path, start: bytes) -> Callable[[Path], TensorFile]:
    if not start:
        raise WeightsError(f"{path} is empty.")
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(
            f"{path} only points to a file kept by Git LFS; `git lfs pull` fetches the file itself."
        )
    # First: the length of a header may look like the first bytes of any other format.
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
