"""From one weight file to another, or to a Keras model of the same network."""

import os
import zipfile
from pathlib import Path

from keras_convnext.errors import WeightsError
from keras_convnext.weights.fetch import fetch
from keras_convnext.weights.save import SUFFIXES, whole_file, write_weights
from keras_convnext.weights.weight_file import StoredWeights

KERAS_FILES = (".keras", ".weights.h5")  # the rest needs no Keras, nor the memory it takes


def convert_weights(
    source: str | os.PathLike, path: str | os.PathLike, format: str | None = None
) -> Path:
    """Writes weights in another form.

    Args:
        source: What `keras_convnext.load_weights` takes.
        path: The new file. `.keras` and `.weights.h5` hold the network the weights belong to;
            `.safetensors` and `.pth` the tensors alone.
        format: Of `.safetensors` and `.pth`, whose names and layout; see
            `keras_convnext.save_weights`. Defaults to `"safetensors"`, and to `"official"` for a
            `.pth`.

    Returns:
        The path.

    Raises:
        WeightsError: If the source cannot be read, holds a network that is no ConvNeXt of this
            package, or cannot be written like this. What it holds beside the network, such as
            another project's classifier, is left out, which is logged.

    Example:
        >>> keras_convnext.convert_weights("tuned.keras", "tuned.pth")  # for the official code
    """
    path = Path(path)
    stored = StoredWeights(fetch(source))
    if stored.unexpected:
        names = ", ".join(list(stored.unexpected)[:5])
        raise WeightsError(f"{stored.path} holds weights that no ConvNeXt has, such as {names}.")
    if not path.name.endswith((*KERAS_FILES, *SUFFIXES)):
        raise WeightsError(
            f"Weights are written as {', '.join((*KERAS_FILES, *SUFFIXES))}. Received: {path}."
        )
    if stored.missing:
        names = ", ".join(stored.missing[:5])
        raise WeightsError(f"{stored.path} lacks weights that its ConvNeXt has, such as {names}.")
    if not path.name.endswith(KERAS_FILES):
        stored.log_left_out()
        default = "official" if path.suffix == ".pth" else "safetensors"
        return write_weights(stored.shapes, stored.read, path, format or default)
    if format is not None:
        raise WeightsError(f"{path.name} is a file of Keras, which takes no `format`.")
    from keras_convnext.models import model_from_weights

    model = model_from_weights(source)
    save = _save_keras if path.suffix == ".keras" else _save_weights
    with whole_file(path) as written:
        save(model, written)
    return path


def _save_weights(model, path):
    model.save_weights(path)


def _save_keras(model, path):
    """Writes a `.keras` file; Keras itself would hold all of it in memory first."""
    import keras

    parts = path.with_name("parts")
    keras.saving.save_model(model, parts, zipped=False)
    with zipfile.ZipFile(path, "w") as archive:
        for part in parts.iterdir():
            archive.write(part, part.name)
