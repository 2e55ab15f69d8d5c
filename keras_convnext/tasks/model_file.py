"""Reads a trained model from a `.keras` file."""

from pathlib import Path

import keras

from keras_convnext.catalog.checkpoints import suggestion
from keras_convnext.errors import RunError


def load_model(path: Path) -> keras.Model:
    """Returns the model of a `.keras` file, not compiled.

    Raises:
        RunError: If there is no such file, or it cannot be loaded.
    """
    if not path.is_file() or path.suffix != ".keras":
        raise RunError(
            f"{path} is neither the directory of a run, nor a .keras file, nor the name of a "
            f"published checkpoint. A run's directory holds recipe.yaml, and last.keras once its "
            f"first epoch has ended. {suggestion(str(path))}"
        )
    # A file compiled by another backend may hold an optimizer that this one cannot read.
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras raises errors of any kind for a damaged file
        raise RunError(f"{path} cannot be loaded as a Keras model: {error}") from error
