"""From what a user calls weights to a file on this machine: a name, a path or an address."""

import hashlib
import importlib.util
import os
import zipfile
from pathlib import Path

from keras_convnext.catalog.checkpoints import CHECKPOINTS, Checkpoint, suggestion
from keras_convnext.errors import MissingPackage, WeightsError
from keras_convnext.files import expanded
from keras_convnext.weights.download import download
from keras_convnext.weights.hub import fetch_from_hub
from keras_convnext.weights.tensor_files import open_tensor_file
from keras_convnext.weights.tensor_files.safetensors_file import SHARDS

# What directories and repositories keep their weights in, the first that is there being taken:
# timm's and transformers' names, then those of Keras and of a run's directory.
WEIGHT_FILES = (
    "model.safetensors",
    f"model{SHARDS}",
    "pytorch_model.bin",
    "last.keras",
    "model.weights.h5",
)


def fetch(source: str | os.PathLike, official: bool = False) -> Path:
    """Returns the file of some weights on this machine, downloading it unless it was before.

    Args:
        source: Name of a published checkpoint; path of a file, or of a directory that holds
            `model.safetensors` or another of `WEIGHT_FILES`, such as a run's; `hf://owner/name`, a
            repository on the Hugging Face Hub, with `@revision` behind it or without; or an
            `https://` address.
        official: Of a published checkpoint, whether to take the official `.pth` file even where
            the Hub has it as safetensors.

    Raises:
        WeightsError: If there is no such thing, or it cannot be had.

    Example:
        >>> fetch("convnext_tiny.fb_in1k")
        PosixPath('.../models--timm--convnext_tiny.fb_in1k/.../model.safetensors')
    """
    name = str(source)
    if name in CHECKPOINTS:
        return _published(CHECKPOINTS[name], official)
    if name.startswith("hf://"):
        return fetch_from_hub(name.removeprefix("hf://"), WEIGHT_FILES)
    if name.startswith(("https://", "http://")):
        _refuse_without_pytorch(name)
        apart = hashlib.sha256(name.encode()).hexdigest()[:16]  # many are called model.safetensors
        return download(name, cache_directory() / apart, check=_refuse_damaged)
    path = expanded(source)
    if os.path.isdir(path):  # unlike Path's, false also for what no path can be
        return _in_directory(path)
    if os.path.isfile(path):
        return path
    raise WeightsError(
        f"{name!r} is neither a file, nor a directory, nor an address (hf:// or https://), nor a "
        f"published checkpoint. {suggestion(name)}"
    )


def cache_directory() -> Path:
    """Where downloads are kept that no other program's cache keeps: below Keras's own directory."""
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "keras_convnext"


def _published(checkpoint: Checkpoint, official: bool) -> Path:
    if checkpoint.hub is not None and not official:
        return fetch_from_hub(checkpoint.hub, WEIGHT_FILES)
    _refuse_without_pytorch(checkpoint.file)
    return download(checkpoint.url, cache_directory(), check=_refuse_corrupted)


def _refuse_without_pytorch(file: str) -> None:
    """Says before a download, and not after it, that the file could not be read."""
    if file.endswith((".pth", ".pt", ".bin")) and importlib.util.find_spec("torch") is None:
        raise MissingPackage(f"PyTorch, which is needed to read {Path(file).name},", "torch")


def _in_directory(directory: Path) -> Path:
    for name in WEIGHT_FILES:
        if (directory / name).is_file():
            return directory / name
    raise WeightsError(
        f"The directory {directory} holds no weights: none of {', '.join(WEIGHT_FILES)} is there."
    )


def _refuse_damaged(path: Path) -> None:
    """Raises a `WeightsError` unless the file is whole, as far as the file itself can tell."""
    open_tensor_file(path)


def _refuse_corrupted(path: Path) -> None:
    """Raises a `WeightsError` unless every tensor in an official file fits its checksum.

    No hash of these files was published, but PyTorch's archives hold a CRC-32 of everything.
    """
    _refuse_damaged(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            record = archive.testzip()
        if record is not None:
            raise WeightsError(f"the checksum of {record} in it is wrong.")
