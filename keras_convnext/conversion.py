"""Converts a weight file to another format, or to a Keras model of the same network."""

import os
import zipfile
from pathlib import Path

from keras_convnext.catalog.checkpoints import resolve
from keras_convnext.errors import WeightsError
from keras_convnext.weights.save import SUFFIXES, atomic_weight_file, write_weights
from keras_convnext.weights.weight_file import open_weights

KERAS_FILES = (".keras", ".weights.h5")  # others are written without Keras and its memory


def convert_weights(
    source: str | os.PathLike, path: str | os.PathLike, format: str | None = None
) -> Path:
    """Writes weights in another format.

    Args:
        source: Anything `keras_convnext.load_weights` takes.
        path: The new file. `.keras` and `.weights.h5` hold the network the weights belong to;
            `.safetensors` and `.pth` the tensors alone.
        format: For `.safetensors` and `.pth`, the project whose names and layout to use; see
            `keras_convnext.save_weights`. Defaults to `"safetensors"`, and to `"official"` for a
            `.pth`.

    Returns:
        The path.

    Raises:
        WeightsError: If the source cannot be read, is not a ConvNeXt of this package, or cannot be
            written in this format. What it holds beside the network, such as another project's
            classifier, is left out, which is logged.

    Example:
        >>> keras_convnext.convert_weights("tuned.keras", "tuned.pth")  # for the official code
    """
    path = Path(path)
    is_keras = path.name.endswith(KERAS_FILES)
    if not is_keras and not path.name.endswith(SUFFIXES):
        raise WeightsError(
            f"Weights are written as {', '.join((*KERAS_FILES, *SUFFIXES))}. Received: {path}."
        )
    if is_keras and format is not None:
        raise WeightsError(f"{path.name} is a file of Keras, which takes no `format`.")
    weight_file = open_weights(resolve(source))
    if weight_file.unexpected:
        names = ", ".join(list(weight_file.unexpected)[:5])
        raise WeightsError(
            f"{weight_file.path} holds weights that no ConvNeXt has, such as {names}."
        )
    if weight_file.missing:
        names = ", ".join(weight_file.missing[:5])
        raise WeightsError(
            f"{weight_file.path} lacks weights that its ConvNeXt has, such as {names}."
        )
    if not is_keras:
        weight_file.log_left_out()
        default = "official" if path.suffix == ".pth" else "safetensors"
        return write_weights(weight_file.shapes, weight_file.read, path, format or default)
    from keras_convnext.models import model_from_weights

    model = model_from_weights(weight_file)
    save = _save_keras if path.suffix == ".keras" else _save_weights
    with atomic_weight_file(path) as written:
        save(model, written)
    return path


def _save_weights(model, path):
    model.save_weights(path)


def _save_keras(model, path):
    """Writes a `.keras` file without holding all of it in memory, as Keras itself would."""
    import keras

    parts = path.with_name("parts")
    keras.saving.save_model(model, parts, zipped=False)
    with zipfile.ZipFile(path, "w") as archive:
        for part in parts.iterdir():
            archive.write(part, part.name)
