"""The checkpoints of a run: after every epoch the whole state of a model in training."""

import re
import warnings
import zipfile
from pathlib import Path

import keras

from keras_convnext import files
from keras_convnext.console import console
from keras_convnext.errors import RunError


class Checkpoints:
    """The checkpoints of a run, one `.keras` file an epoch, of which the newest few stay.

    A checkpoint is a model with its optimizer: weights, moments, moving averages, position in the
    schedule, scale of the loss, and the state of stochastic depth's draws.

    Args:
        directory: Where they are; it is made if it is not there.
        keep: How many stay.
    """

    def __init__(self, directory: Path, keep: int) -> None:
        self.directory = directory
        self.keep = keep

    def path(self, epoch: int) -> Path:
        """Returns the file of an epoch, counted from 1."""
        return self.directory / f"epoch_{epoch:04d}.keras"

    def epochs(self) -> list[int]:
        """Returns the epochs of which there is a checkpoint, in their order."""
        if not self.directory.is_dir():
            return []
        found = (
            re.fullmatch(r"epoch_(\d+)\.keras", path.name) for path in self.directory.iterdir()
        )
        return sorted(int(match[1]) for match in found if match)

    def write(self, model: keras.Model, epoch: int) -> None:
        """Writes the checkpoint of an epoch that has ended.

        Raises:
            WriteError: If it cannot be written; the earlier ones stay.
        """
        write_model(model, self.path(epoch))

    def remove_before(self, epoch: int) -> None:
        """Removes all but this epoch's and the few before it that stay."""
        for old in self.epochs():
            if old <= epoch - self.keep:
                self.path(old).unlink()

    def restore(self, model: keras.Model) -> int:
        """Gives a compiled model the state of the newest checkpoint that is whole.

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
            except Exception as error:  # Keras raises what the file's inside happens to lead to
                reason = f"{self.path(epoch)} cannot be used as a checkpoint: {error}."
                console.print(reason, style="yellow", soft_wrap=True)
            else:
                return epoch
        if epochs:
            raise RunError(
                f"{reason} Nor can any earlier one in {self.directory}. Put one back, choose "
                f"another directory with --run-dir, or begin anew with --overwrite."
            )
        return 0


def write_model(model: keras.Model, path: Path) -> None:
    """Writes a model whole, with its optimizer.

    Raises:
        WriteError: If it cannot be written; what was there stays.
    """
    with files.whole_file(path) as written:
        try:
            model.save(written)
        except RuntimeError as error:  # HDF5's, for errors of the system
            raise OSError(str(error)) from error


def _load(model: keras.Model, path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged:
        raise ValueError(f"its part {damaged} is damaged")
    with warnings.catch_warnings():
        # Keras only warns of an optimizer that does not fit, and leaves it as it is.
        warnings.simplefilter("error")
        model.load_weights(path)
