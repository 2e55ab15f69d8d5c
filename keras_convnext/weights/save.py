"""Writes weights to a file that another project, or this one, can load."""

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors.numpy

from keras_convnext import files
from keras_convnext.errors import MissingPackage, WeightsError
from keras_convnext.weights import formats
from keras_convnext.weights.network import find_network, float_weights

if TYPE_CHECKING:  # tensors are converted without Keras, which takes memory
    import keras

# The formats that can be written, by the names that callers use.
WRITTEN = {
    "official": formats.OFFICIAL,
    "timm": formats.TIMM,
    "transformers": formats.TRANSFORMERS,
    "torchvision": formats.TORCHVISION,
    "safetensors": formats.SAFETENSORS,
}
SUFFIXES = (".safetensors", ".pth")


def save_weights(
    model: "keras.Model", path: str | os.PathLike, format: str = "safetensors"
) -> Path:
    """Writes a network's weights with another project's names and layout.

    LoRA's matrices are merged into their kernels, as Keras does when it saves a model.

    Args:
        model: A network of this package. It may stand inside a model that holds no other weights.
        path: The file: `.safetensors`, or `.pth` for one of PyTorch's. It is written atomically.
        format: The project whose names and layout to use: `"official"` (the official code; a
            `.pth` holds the weights under the key `model`, as its own files do), `"timm"`,
            `"transformers"`, `"torchvision"`, or `"safetensors"` for the paths that weights have in
            Keras.

    Returns:
        The path.

    Raises:
        WeightsError: If the format has no names for this network, or the path has another suffix;
            if the model holds no ConvNeXt, several, or weights beside it, which would be lost; if
            it is quantized to integers.
        MissingPackage: If the file is a `.pth` and PyTorch is not installed.

    Example:
        >>> keras_convnext.save_weights(model, "tuned.safetensors", format="timm")
        >>> # timm.create_model("convnext_tiny", checkpoint_path="tuned.safetensors")
    """
    import keras

    network = find_network(model)
    if network.others:
        raise WeightsError(_weights_beside(model, network))
    weights = float_weights(model, network)
    return write_weights(
        weights, lambda name: keras.ops.convert_to_numpy(weights[name]), path, format
    )


def write_weights(
    paths: Iterable[str],
    read: Callable[[str], np.ndarray],
    file: str | os.PathLike,
    format: str,
) -> Path:
    """Writes weights, reading them one by one; see `save_weights`.

    Args:
        paths: Our path of every weight.
        read: Returns the weight with a path, in our layout.
        file: As in `save_weights`.
        format: As in `save_weights`.
    """
    file = Path(file)
    if file.suffix not in SUFFIXES:
        raise WeightsError(f"Weights are written as {' or '.join(SUFFIXES)}. Received: {file}.")
    paths = list(paths)
    chosen = _format(format, paths)
    write = _write_pth if file.suffix == ".pth" else _write_safetensors
    tensors = {chosen.name_of(path): _tensor(chosen, path, read(path)) for path in paths}
    try:
        with atomic_weight_file(file) as written:
            write(tensors, written, chosen)
    # Their errors when the operating system cannot write.
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise WeightsError(f"{file} cannot be written: {error}") from error
    return file


@contextlib.contextmanager
def atomic_weight_file(file: Path) -> Iterator[Path]:
    """Yields a temporary path that replaces `file` once it is written without an error.

    Raises:
        WeightsError: If it cannot be written.
    """
    try:
        with files.atomic_write(file) as written:
            yield written
    except OSError as error:
        raise WeightsError(f"{file} cannot be written: {error.strerror or error}.") from error


def _weights_beside(model, network):
    listed = ", ".join(
        f"{variable.path} {tuple(variable.shape)}" for variable in network.others[:5]
    )
    more = f" and {len(network.others) - 5} more" if len(network.others) > 5 else ""
    if network.inner:
        advice = (
            f"Pass the network itself, {network.name!r}, such as model.get_layer({network.name!r})"
        )
    else:
        advice = "Pass a model of the ConvNeXt's layers alone, such as the one yours was built from"
    return (
        f"{model.name!r} holds weights beside those of its ConvNeXt, for which the file has no "
        f"names: {listed}{more}. {advice}, and keep the whole with model.save('model.keras')."
    )


def _format(name: str, paths: list[str]) -> formats.Format:
    """Returns the format with a name that can hold weights with these paths."""
    if name not in WRITTEN:
        raise WeightsError(f"`format` must be one of {', '.join(WRITTEN)}. Received: {name!r}.")
    chosen = WRITTEN[name]
    isotropic = "stem/norm/gamma" not in paths
    if isotropic and chosen is formats.OFFICIAL:
        chosen = formats.OFFICIAL_ISOTROPIC
    elif isotropic and chosen is not formats.SAFETENSORS:
        raise WeightsError(
            f"{name} has no network without a LayerNorm after the stem; 'official' and "
            f"'safetensors' can hold its weights."
        )
    if chosen is formats.TRANSFORMERS and "head/kernel" not in paths:
        chosen = formats.TRANSFORMERS_BACKBONE
    nameless = [path for path in paths if chosen.name_of(path) is None]
    if nameless:
        raise WeightsError(
            f"The format {name!r} has no names for these weights: {', '.join(nameless[:5])}. Pass "
            f"a network of keras_convnext; of a model around one, the inner one."
        )
    return chosen


def _tensor(chosen, path, array):
    # PyTorch warns about arrays that are not writable.
    array = chosen.from_keras(path, array.astype("float32", copy=False))
    return np.require(array, requirements=["C_CONTIGUOUS", "WRITEABLE"])


def _write_safetensors(tensors, path, chosen):
    # transformers requires this of a file in PyTorch's layout.
    metadata = {"format": "pt"} if chosen.layout == "pytorch" else None
    safetensors.numpy.save_file(tensors, path, metadata)


def _write_pth(tensors, path, chosen):
    if importlib.util.find_spec("torch") is None:
        raise MissingPackage(f"PyTorch, which is needed to write {path.name},", "torch")
    import torch

    state_dict = {name: torch.from_numpy(array) for name, array in tensors.items()}
    official = chosen in (formats.OFFICIAL, formats.OFFICIAL_ISOTROPIC)
    torch.save({"model": state_dict} if official else state_dict, path)
