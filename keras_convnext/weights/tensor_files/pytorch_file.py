"""Tensors in files of PyTorch, which are pickles, read without executing any code in them."""

import argparse
import importlib.util
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from keras_convnext.errors import MissingPackage, WeightsError

# The keys of a state dict in checkpoints that also hold an optimizer's state. The first key
# that exists is used.
STATE_DICT_KEYS = (
    "model",
    "state_dict",
    "model_state_dict",
    "model_state",
    "module",
    "net",
    "network",
    "weights",
    "params",
    "backbone",
    "encoder",
)
# Keys of an EMA of the weights, used only if the file has no other weights.
AVERAGE_KEYS = (
    "model_ema",
    "state_dict_ema",
    "ema_state_dict",
    "model_ema_state_dict",
    "ema_model",
    "ema",
    "averaged_model",
    "swa_state_dict",
)
# Pages of a mapped file stay in memory until it is closed; reopen it after this many bytes.
REOPEN_AFTER = 1 << 28
# In older versions `weights_only=True` could be bypassed (CVE-2025-32434).
SAFE_SINCE = (2, 6)


class PyTorchFile:
    """A state dict, bare or inside a checkpoint."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.left_out: list[str] = []
        self._open()
        for name, tensor in self._tensors.items():
            if str(tensor.layout) != "torch.strided" or tensor.is_quantized or tensor.is_complex():
                raise WeightsError(
                    f"{path} cannot be read: its {name!r} is no plain array of numbers, but "
                    f"{tensor.dtype} in the layout {tensor.layout}."
                )
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}

    def _open(self) -> None:
        loaded = _load_without_executing(self._path)
        key, self._tensors = _state_dict(loaded, self._path)
        averages = [other for other in _keys_of_dicts(loaded, AVERAGE_KEYS) if other != key]
        self.left_out = [
            f"{self._path} holds weights under {key!r} and their moving average under {other!r}: "
            f"the weights are taken. To take the average, save its state dict alone."
            for other in averages
        ]
        self._bytes_read = 0

    def read(self, name: str) -> np.ndarray:
        tensor = self._tensors[name]
        self._bytes_read += tensor.nbytes
        if self._bytes_read > REOPEN_AFTER and zipfile.is_zipfile(self._path):
            self._open()
        # A copy: any view of the tensor would keep the file mapped.
        return np.array(tensor.detach().float().numpy())


def _load_without_executing(path):
    if importlib.util.find_spec("torch") is None:
        raise MissingPackage(f"PyTorch, which is needed to read {path.name},", "torch")
    import torch

    if tuple(map(int, torch.__version__.split(".")[:2])) < SAFE_SINCE:
        raise WeightsError(
            f"PyTorch {torch.__version__} may run code that is hidden in {path.name}; from version "
            f"{'.'.join(map(str, SAFE_SINCE))} on it does not. Update it, or use safetensors."
        )
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_plain_values()):
            warnings.simplefilter("ignore")  # about pickles of another protocol than PyTorch's
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


def _plain_values():
    """Returns the types that may be loaded beside tensors: names and numbers, no code.

    The official trainer saves its arguments as a Namespace, and many trainers the best accuracy
    as a NumPy scalar. The module of `scalar` has different names in NumPy 1 and NumPy 2.
    """
    scalar = np.float64(0).__reduce__()[0]
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    types = {type(np.dtype(kind)) for kind in "?bhilqBHILQefd"}
    scalars = [(scalar, f"{module}.scalar") for module in modules]
    return [argparse.Namespace, np.dtype, *types, *scalars]


def _state_dict(loaded: Any, path: Path) -> tuple[str | None, dict[str, Any]]:
    """Returns the state dict in a file, and its key if it has one."""
    keys = _keys_of_dicts(loaded, (*STATE_DICT_KEYS, *AVERAGE_KEYS))
    for key in keys:
        if tensors := _tensors(loaded[key]):
            return key, tensors
        if _keys_of_dicts(loaded[key], STATE_DICT_KEYS):  # the checkpoint is in another dict
            return key, _state_dict(loaded[key], path)[1]
    if tensors := _tensors(loaded):
        return None, tensors
    found = ", ".join(map(repr, loaded)) if isinstance(loaded, dict) else type(loaded).__name__
    raise WeightsError(
        f"{path} holds no state dict: a dict of tensors by their names, or one under one of the "
        f"keys {', '.join(map(repr, (*STATE_DICT_KEYS, *AVERAGE_KEYS)))}. It holds {found[:200]}."
    )


def _keys_of_dicts(loaded, keys):
    """Returns those of the keys whose values are dicts, in the order given."""
    return [key for key in keys if isinstance(loaded, dict) and isinstance(loaded.get(key), dict)]


def _tensors(value):
    import torch

    if not isinstance(value, dict):
        return {}
    return {
        name: tensor
        for name, tensor in value.items()
        if isinstance(name, str) and torch.is_tensor(tensor)
    }
