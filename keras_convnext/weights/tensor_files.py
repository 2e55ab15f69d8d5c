"""Named tensors in files: safetensors, PyTorch's, Keras's HDF5. What they mean is not known here.

The kind of a file is told by its first bytes, not by its name. Tensors are read one by one, so that
no more than one of them is in memory beside what is made of them.
"""

import argparse
import collections
import importlib.util
import io
import json
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import h5py
import ml_dtypes  # noqa: F401 (teaches NumPy bfloat16, which safetensors reads as)
import numpy as np
import safetensors

from keras_convnext.errors import MissingPackage, WeightsError

SHARDS = ".safetensors.index.json"
# What PyTorch files keep their tensors under, beside the state of an optimizer and the like.
STATE_DICT_KEYS = ("model", "state_dict")
# The pages of a mapped file take memory until it is closed; this many bytes of them at most.
REOPEN_AFTER = 1 << 28


class TensorFile(Protocol):
    """Tensors of a file: their names with their shapes, and the values one by one."""

    shapes: dict[str, tuple[int, ...]]

    def read(self, name: str) -> np.ndarray:
        """Returns the values of one tensor; half precision as `float32`."""


def open_tensor_file(path: Path) -> TensorFile:
    """Opens a file of tensors.

    Raises:
        WeightsError: If it is none, is damaged, or holds anything else than tensors; nothing that
            is in it is ever executed.
        MissingPackage: If it is PyTorch's and PyTorch is not installed.
    """
    if path.name.endswith(SHARDS):
        return _Shards(path)
    with path.open("rb") as file:
        start = file.read(128)
    try:
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
    if start.lstrip()[:1] == b"<":
        raise WeightsError(f"{path} is a web page, not weights: its download went wrong.")
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return _Hdf5
    if start.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            return _KerasArchive if "model.weights.h5" in archive.namelist() else _PyTorch
    if start.startswith(b"\x80"):  # a pickle, as PyTorch wrote until version 1.6
        return _PyTorch
    if start[8:9] == b"{":
        return _Safetensors
    raise WeightsError(
        f"{path} holds no weights that can be read. Safetensors, PyTorch's .pth and .bin, and "
        f"Keras's .h5, .weights.h5 and .keras can."
    )


class _Safetensors:
    def __init__(self, path: Path) -> None:
        self._path = path
        with safetensors.safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            self.shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}

    def read(self, name: str) -> np.ndarray:
        # Opened anew for each, since the pages of a mapped file take memory until it is closed.
        with safetensors.safe_open(self._path, framework="numpy") as file:
            return file.get_tensor(name).astype("float32")


class _Shards:
    """Several safetensors files beside the index that lists them."""

    def __init__(self, index: Path) -> None:
        of_name = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = {file: open_tensor_file(index.with_name(file)) for file in set(of_name.values())}
        self._file_of = {name: files[file] for name, file in of_name.items()}
        self.shapes = {name: file.shapes[name] for name, file in self._file_of.items()}

    def read(self, name: str) -> np.ndarray:
        return self._file_of[name].read(name)


class _PyTorch:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}

    def _open(self) -> None:
        self._tensors = _state_dict(_load_without_executing(self._path), self._path)
        self._bytes_read = 0

    def read(self, name: str) -> np.ndarray:
        tensor = self._tensors[name]
        self._bytes_read += tensor.nbytes
        if self._bytes_read > REOPEN_AFTER and zipfile.is_zipfile(self._path):
            self._open()
        # Copied, or an array, or a variable that took it over, would keep the file mapped.
        return np.array(tensor.detach().float().numpy())


def _load_without_executing(path):
    if importlib.util.find_spec("torch") is None:
        raise MissingPackage(f"PyTorch, which is needed to read {path.name},", "torch")
    import pickle

    import torch

    try:
        # The official trainer also saves its arguments, a Namespace: names and values, no code.
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # of pickles of another protocol than PyTorch's own
            return torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f" ({found[1]})" if found else ""
        raise WeightsError(
            f"{path} holds Python objects other than tensors{what}, which could run code when they "
            f"are loaded. It was refused, and nothing in it was executed."
        ) from None


def _state_dict(loaded: Any, path: Path) -> dict[str, Any]:
    import torch

    key = next((key for key in STATE_DICT_KEYS if isinstance(_get(loaded, key), dict)), None)
    tensors = loaded if key is None else loaded[key]
    if not isinstance(tensors, dict) or not any(map(torch.is_tensor, tensors.values())):
        raise WeightsError(
            f"{path} holds no state dict: a dict of tensors, or one under "
            f"{' or '.join(map(repr, STATE_DICT_KEYS))}."
        )
    # What DistributedDataParallel puts before every name.
    return {
        name.removeprefix("module."): value
        for name, value in tensors.items()
        if torch.is_tensor(value)
    }


def _get(loaded, key):
    return loaded.get(key) if isinstance(loaded, dict) else None


class _Hdf5:
    """Keras's weights, named by layer and place in it: `head/0` is the kernel of the head."""

    def __init__(self, path: Path | io.BytesIO) -> None:
        file = h5py.File(path)
        root = file.get("model_weights", file)  # of a whole model in the format of Keras 2
        legacy = any(name.startswith("layer_names") for name in root.attrs)
        self._weights = _of_keras_2(root) if legacy else _of_keras_3(file)
        self.shapes = {name: weight.shape for name, weight in self._weights.items()}

    def read(self, name: str) -> np.ndarray:
        return self._weights[name][()].astype("float32", copy=False)


class _KerasArchive(_Hdf5):
    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            super().__init__(io.BytesIO(archive.read("model.weights.h5")))


def _of_keras_3(file):
    """Keras 3 calls its groups by the layers' classes and keeps their names beside the weights."""
    weights = {}

    def visit(address, item):
        *groups, collection, last = address.split("/")
        if isinstance(item, h5py.Dataset) and collection == "vars" and last.isdigit():
            weights["/".join([*_layer_names(file, groups), last])] = item

    if "layers" in file:
        file["layers"].visititems(lambda name, item: visit(f"layers/{name}", item))
    return weights


def _layer_names(file, groups):
    for depth, group in enumerate(groups, start=1):
        variables = file["/".join(groups[:depth])].get("vars")
        if variables is not None:
            yield variables.attrs.get("name", group)


def _of_keras_2(root):
    weights = {}
    for layer in _names(root, "layer_names"):
        places: collections.Counter[str] = collections.Counter()
        for name in _names(root[layer], "weight_names"):
            owner = [layer, *name.split("/")][-2]
            weights[f"{owner}/{places[owner]}"] = root[layer][name]
            places[owner] += 1
    return weights


def _names(group, attribute):
    """Keras splits a list that is too long for one attribute into several, numbered from 0."""
    parts = [attribute] if attribute in group.attrs else []
    while f"{attribute}{len(parts)}" in group.attrs:
        parts.append(f"{attribute}{len(parts)}")
    names = [name for part in parts for name in group.attrs[part]]
    return [name.decode() if isinstance(name, bytes) else name for name in names]
