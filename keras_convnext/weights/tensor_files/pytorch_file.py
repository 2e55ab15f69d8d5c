"""Tensors in PyTorch's files, which are pickles, without running what a pickle could run."""

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

# What the tensors stand under, beside the state of an optimizer and the like.
STATE_DICT_KEYS = ("model", "state_dict")
# The pages of a mapped file take memory until it is closed; this many bytes of them at most.
REOPEN_AFTER = 1 << 28
# Before it, `weights_only=True` could be got round (CVE-2025-32434).
SAFE_SINCE = (2, 6)


class PyTorchFile:
    """A state dict, bare or inside a checkpoint."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()
        for name, tensor in self._tensors.items():
            if str(tensor.layout) != "torch.strided" or tensor.is_quantized or tensor.is_complex():
                raise WeightsError(
                    f"{path} cannot be read: its {name!r} is no plain array of numbers, but "
                    f"{tensor.dtype} in the layout {tensor.layout}."
                )
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
    import torch

    if tuple(map(int, torch.__version__.split(".")[:2])) < SAFE_SINCE:
        raise WeightsError(
            f"PyTorch {torch.__version__} may run code that is hidden in {path.name}; from version "
            f"{'.'.join(map(str, SAFE_SINCE))} on it does not. Update it, or use safetensors."
        )
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
