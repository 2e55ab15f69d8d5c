"""From one weight file to another, or to a Keras model of the same network."""

import os
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from keras_convnext.errors import WeightsError
from keras_convnext.weights.catalog import CHECKPOINTS
from keras_convnext.weights.fetch import fetch
from keras_convnext.weights.save import write_weights
from keras_convnext.weights.stored import StoredWeights

if TYPE_CHECKING:
    import keras

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
        WeightsError: If the source cannot be read, holds more than a ConvNeXt's weights, or cannot
            be written like this.

    Example:
        >>> keras_convnext.convert_weights("tuned.keras", "tuned.pth")  # for the official code
    """
    path = Path(path)
    stored = StoredWeights(fetch(source))
    if stored.unexpected:
        names = ", ".join(list(stored.unexpected)[:5])
        raise WeightsError(f"{stored.path} holds weights that no ConvNeXt has, such as {names}.")
    if not path.name.endswith(KERAS_FILES):
        default = "official" if path.suffix == ".pth" else "safetensors"
        return write_weights(stored.shapes, stored.read, path, format or default)
    if format is not None:
        raise WeightsError(f"{path.name} is a file of Keras, which takes no `format`.")
    checkpoint = CHECKPOINTS.get(str(source))
    model = model_of(stored, checkpoint.image_size if checkpoint else 224)
    del stored  # or its pages would stay in memory while the model is written
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".keras":
        _save_keras(model, path)
    else:
        model.save_weights(path)
    return path


def model_of(stored: StoredWeights, image_size: int = 224) -> "keras.Model":
    """Returns the network that a file's weights belong to, with these weights.

    Args:
        stored: The opened file.
        image_size: Height and width of its images, in pixels; without a classifier it takes any.
    """
    from keras_convnext.models import ConvNeXt
    from keras_convnext.weights.load import assign

    network = stored.architecture
    model = ConvNeXt(
        network.depths,
        network.dims,
        patch_size=network.patch_size,
        kernel_size=network.kernel_size,
        stem_norm=network.stem_norm,
        include_top=network.classes is not None,
        input_shape=(image_size, image_size, 3) if network.classes else None,
        pooling=None if network.classes else "avg",
        classes=network.classes,
        name=network.variant,
        layer_scale_init_value=1e-6 if network.layer_scale else None,
    )
    assign(model, stored)
    return model


def _save_keras(model, path):
    """Writes a `.keras` file; Keras itself would hold all of it in memory first."""
    import keras

    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        parts, whole = Path(directory) / "parts", Path(directory) / path.name
        keras.saving.save_model(model, parts, zipped=False)
        with zipfile.ZipFile(whole, "w") as archive:
            for part in parts.iterdir():
                archive.write(part, part.name)
        whole.replace(path)
