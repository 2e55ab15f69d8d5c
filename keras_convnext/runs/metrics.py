"""The metrics of a run: one line of JSON an epoch, in the order of the epochs.

`keras_convnext.callbacks.MetricsLog` appends the lines. A line counts once its newline is written,
so a process that is killed while it writes leaves no half row.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Literal

from keras_convnext import files
from keras_convnext.errors import RunError


@dataclasses.dataclass(frozen=True)
class Monitor:
    """The metric that ranks the epochs of a run.

    Attributes:
        metric: Its name in training, such as `"accuracy"`. Epochs are ranked by its validation
            values, `val_accuracy`, and those of the weights' average, `val_ema_accuracy`.
        mode: `"max"` if greater values are better, `"min"` if smaller ones are.
    """

    metric: str
    mode: Literal["max", "min"]

    def score(self, row: dict[str, float], prefix: str) -> float:
        """Returns an epoch's value so that greater is better; -inf if the epoch has none."""
        value = row.get(prefix + self.metric)
        if value is None:
            return -math.inf
        return value if self.mode == "max" else -value

    def is_best(self, rows: list[dict[str, float]], prefix: str) -> bool:
        """Returns whether the last epoch is the first with the best value."""
        scores = [self.score(row, prefix) for row in rows]
        return scores[-1] > max(scores[:-1], default=-math.inf)


class MetricsFile:
    """The metrics of a run, as a file.

    Args:
        path: The file. Without it there are no rows.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[dict[str, float]]:
        """Returns the metrics of every epoch, without an incomplete last line.

        Raises:
            RunError: If a line is not JSON.
        """
        return [self._parsed(line) for line in self._lines()]

    def cut(self, epoch: int) -> None:
        """Removes the metrics of later epochs, and an incomplete last line.

        Raises:
            RunError: If an epoch up to this one is missing.
            WriteError: If the file cannot be written; it is unchanged then.
        """
        kept = [line for line in self._lines() if self._parsed(line)["epoch"] <= epoch]
        if [self._parsed(line)["epoch"] for line in kept] != list(range(1, epoch + 1)):
            raise RunError(
                f"{self.path} does not hold the {epoch} epochs up to the run's newest checkpoint, "
                f"so the run cannot be resumed. Put the file back, choose another directory with "
                f"--run-dir, or start over with --overwrite."
            )
        files.write_text(self.path, "".join(kept))

    def _lines(self) -> list[str]:
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [line for line in lines if line.endswith("\n")]

    def _parsed(self, line: str) -> dict[str, float]:
        try:
            return json.loads(line)
        except ValueError:
            raise RunError(
                f"{self.path} holds a line that is not JSON: {line!r}. Remove the line, or put the "
                f"file back."
            ) from None
