"""Finds or downloads the file of weights that a user names: by name, path or address."""

import hashlib
import importlib.util
import os
import zipfile
from pathlib import Path

from keras_convnext.catalog.checkpoints import Checkpoint, resolve, suggestion
from keras_convnext.errors import MissingPackage, WeightsError
from keras_convnext.files import expanded
from keras_convnext.weights.download import download
from keras_convnext.weights.hub import fetch_from_hub
from keras_convnext.weights.tensor_files import open_tensor_file
from keras_convnext.weights.tensor_files.safetensors_file import SHARDS

# Names of weight files in directories and repositories; the first that exists is taken. timm's and
# transformers' names come first, then those of Keras and of a run's directory.
WEIGHT_FILES = (
    "model.safetensors",
    f"model{SHARDS}",
    "pytorch_model.bin",
    "last.keras",
    "model.weights.h5",
)


def fetch(source: str | os.PathLike | Checkpoint, official: bool = False) -> Path:
    """Returns the file of weights on this machine, downloading it if it is not here yet.

    Args:
        source: A published checkpoint or its name; path of a file, or of a directory that holds
            `model.safetensors` or another of `WEIGHT_FILES`, such as a run's; `hf://owner/name`, a
            repository on the Hugging Face Hub, with `@revision` behind it or without; or an
            `https://` address.
        official: Of a published checkpoint, whether to take the official `.pth` file even if the
            Hub has it as safetensors.

    Raises:
        WeightsError: If there are no such weights, or they cannot be downloaded.

    Example:
        >>> fetch("convnext_tiny.fb_in1k")
        PosixPath('.../models--timm--convnext_tiny.fb_in1k/.../model.safetensors')
    """
    source = resolve(source)
    if isinstance(source, Checkpoint):
        return _published(source, official)
    name = str(source)
    if name.startswith("hf://"):
        return fetch_from_hub(name.removeprefix("hf://"), WEIGHT_FILES)
    if name.startswith(("https://", "http://")):
        _check_pytorch(name)
        # A directory for each address, since many files are called model.safetensors.
        directory = hashlib.sha256(name.encode()).hexdigest()[:16]
        return download(name, cache_directory() / directory, check=_check_readable)
    path = expanded(source)
    if os.path.isdir(path):  # unlike Path.is_dir, False for an impossible path too
        return _in_directory(path)
    if os.path.isfile(path):
        return path
    raise WeightsError(
        f"{name!r} is neither a file, nor a directory, nor an address (hf:// or https://), nor a "
        f"published checkpoint. {suggestion(name)}"
    )


def cache_directory() -> Path:
    """Returns the directory of downloads that are in no other program's cache, below Keras's."""
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "keras_convnext"


def _published(checkpoint: Checkpoint, official: bool) -> Path:
    if checkpoint.hub is not None and not official:
        return fetch_from_hub(checkpoint.hub, WEIGHT_FILES)
    _check_pytorch(checkpoint.file)
    return download(checkpoint.url, cache_directory(), check=_check_checksums)


def _check_pytorch(file: str) -> None:
    """Raises `MissingPackage` before a download if the file could not be read after it."""
    if file.endswith((".pth", ".pt", ".bin")) and importlib.util.find_spec("torch") is None:
        raise MissingPackage(f"PyTorch, which is needed to read {Path(file).name},", "torch")


def _in_directory(directory: Path) -> Path:
    for name in WEIGHT_FILES:
        if (directory / name).is_file():
            return directory / name
    raise WeightsError(
        f"The directory {directory} holds no weights: none of {', '.join(WEIGHT_FILES)} is there."
    )


def _check_readable(path: Path) -> None:
    """Raises a `WeightsError` unless the file can be opened and is complete."""
    open_tensor_file(path)


def _check_checksums(path: Path) -> None:
    """Raises a `WeightsError` unless every tensor in an official file matches its checksum.

    No hash of these files was published, but PyTorch's archives hold a CRC-32 of everything.
    """
    _check_readable(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            record = archive.testzip()
        if record is not None:
            raise WeightsError(f"the checksum of {record} in it is wrong.")
