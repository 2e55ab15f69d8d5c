"""The checkpoints of a run: the complete training state after every epoch."""

import re
import warnings
import zipfile
from pathlib import Path

import keras

from keras_convnext import files
from keras_convnext.console import console
from keras_convnext.errors import RunError


class Checkpoints:
    """The checkpoints of a run, one `.keras` file an epoch, of which the newest few are kept.

    A checkpoint is a model with its optimizer: weights, moments, moving averages, position in the
    schedule, loss scale, and the seed state of stochastic depth.

    Args:
        directory: Their directory, created if necessary.
        keep: How many are kept.
    """

    def __init__(self, directory: Path, keep: int) -> None:
        self.directory = directory
        self.keep = keep

    def path(self, epoch: int) -> Path:
        """Returns the file of an epoch, counted from 1."""
        return self.directory / f"epoch_{epoch:04d}.keras"

    def epochs(self) -> list[int]:
        """Returns the epochs that have a checkpoint, in order."""
        if not self.directory.is_dir():
            return []
        found = (
            re.fullmatch(r"epoch_(\d+)\.keras", path.name) for path in self.directory.iterdir()
        )
        return sorted(int(match[1]) for match in found if match)

    def write(self, model: keras.Model, epoch: int) -> None:
        """Writes the checkpoint of an epoch that has ended.

        Raises:
            WriteError: If it cannot be written; the earlier ones are kept.
        """
        write_model(model, self.path(epoch))

    def remove_before(self, epoch: int) -> None:
        """Removes the checkpoints up to this epoch, except the newest `keep` of them."""
        for old in self.epochs():
            if old <= epoch - self.keep:
                self.path(old).unlink()

    def restore(self, model: keras.Model) -> int:
        """Restores the state of the newest complete checkpoint into a compiled model.

        Returns:
            The checkpoint's epoch; 0 if there is none.

        Raises:
            RunError: If there are checkpoints and none can be read.
        """
        epochs = self.epochs()
        model.optimizer.build(model.trainable_variables)
        for epoch in reversed(epochs):
            try:
                _load(model, self.path(epoch))
            except Exception as error:  # Keras raises errors of any kind for a damaged file
                reason = f"{self.path(epoch)} cannot be used as a checkpoint: {error}."
                console.print(reason, style="yellow", soft_wrap=True)
            else:
                return epoch
        if epochs:
            raise RunError(
                f"{reason} Nor can any earlier one in {self.directory}. Put one back, choose "
                f"another directory with --run-dir, or start over with --overwrite."
            )
        return 0


def write_model(model: keras.Model, path: Path) -> None:
    """Writes a model with its optimizer, atomically.

    Raises:
        WriteError: If it cannot be written; an earlier file is kept.
    """
    with files.atomic_write(path) as written:
        try:
            model.save(written)
        except RuntimeError as error:  # HDF5 raises it for errors of the operating system
            raise OSError(str(error)) from error


def _load(model: keras.Model, path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged:
        raise ValueError(f"its part {damaged} is damaged")
    with warnings.catch_warnings():
        # Keras only warns if the optimizer's state does not match, and does not load it.
        warnings.simplefilter("error")
        model.load_weights(path)
