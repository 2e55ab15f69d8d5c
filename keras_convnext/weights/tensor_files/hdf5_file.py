"""Tensors in the HDF5 files of Keras 2 and Keras 3, and in `.keras` archives."""

import collections
import io
import zipfile
from pathlib import Path

import h5py
import ml_dtypes  # noqa: F401 (teaches NumPy bfloat16)
import numpy as np

from keras_convnext.errors import WeightsError


class Hdf5File:
    """Weights of Keras, named by the layer and an index: `head/0` is the kernel of the head."""

    def __init__(self, path: Path, content: io.BytesIO | None = None) -> None:
        file = h5py.File(content or path)
        root = file.get("model_weights", file)  # of a whole model in the format of Keras 2
        legacy = any(name.startswith("layer_names") for name in root.attrs)
        self._weights = _of_keras_2(root) if legacy else _of_keras_3(file)
        for name, weight in self._weights.items():
            _check_readable(path, file, name, weight)
        self.left_out: list[str] = []
        self.shapes = {name: weight.shape for name, weight in self._weights.items()}

    def read(self, name: str) -> np.ndarray:
        weight = self._weights[name]
        array = weight[()]
        return (array.view("bfloat16") if _is_bfloat16(weight) else array).astype("float32")


def _is_bfloat16(weight):
    """HDF5 has no bfloat16, so Keras writes the type as an attribute."""
    return weight.attrs.get("dtype") == "bfloat16" and weight.dtype.itemsize == 2


def _check_readable(path, file, name, weight):
    if weight.file.filename != file.filename or weight.is_virtual or weight.external:
        raise WeightsError(f"{path} keeps {name!r} in another file, which is not read.")
    if weight.dtype.kind not in "fiu" and not _is_bfloat16(weight):
        raise WeightsError(
            f"{path} cannot be read: its {name!r} is of the type {weight.dtype}, no number."
        )


def keras_archive(path: Path) -> Hdf5File:
    """Opens the weights in a `.keras` file."""
    with zipfile.ZipFile(path) as archive:
        return Hdf5File(path, io.BytesIO(archive.read("model.weights.h5")))


def _of_keras_3(file):
    """Keras 3 names groups after the layers' classes; the layers' names are attributes."""
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
            owner = name.rpartition("/")[0] or layer
            weights[f"{owner}/{places[owner]}"] = root[layer][name]
            places[owner] += 1
    return weights


def _names(group, attribute):
    """Keras splits a list that is too long for one attribute into attributes numbered from 0."""
    parts = [attribute] if attribute in group.attrs else []
    while f"{attribute}{len(parts)}" in group.attrs:
        parts.append(f"{attribute}{len(parts)}")
    names = [name for part in parts for name in group.attrs[part]]
    return [name.decode() if isinstance(name, bytes) else name for name in names]
