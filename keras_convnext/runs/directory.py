"""The directory of a run: the name of every file in it, and the state that the files show."""

import contextlib
import enum
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from keras_convnext import files
from keras_convnext.errors import RecipeError, RunError
from keras_convnext.recipe import Recipe, load_recipe
from keras_convnext.recipe.renamed import RUN_HEADER
from keras_convnext.runs.metrics import MetricsFile

LOCK = ".lock"
# The models that a run keeps, beside its checkpoints.
STATES = ("last", "best", "best_ema")


class RunState(enum.Enum):
    """How far the run in a directory is."""

    NEW = "no run was started"
    UNFINISHED = "started, and not evaluated, reported and exported to the end"
    FINISHED = "complete"


class RunDirectory:
    """Where a run keeps its recipe, metrics, models and report.

    Args:
        path: The directory. It need not exist; `open` accepts only the directory of a run.

    Example:
        >>> run = keras_convnext.RunDirectory("runs/digits")
        >>> run.metrics()[-1]["val_accuracy"]
        0.9889
    """

    def __init__(self, path: str | Path) -> None:
        self.path = files.expanded(path)
        self.recipe_file = self.path / "recipe.yaml"
        self.plan_file = self.path / "plan.json"
        self.classes_file = self.path / "classes.json"
        self.environment_file = self.path / "environment.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.events = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.best_model = self.path / "best.keras"
        self.best_ema_model = self.path / "best_ema.keras"
        self.last_model = self.path / "last.keras"
        self.stop_file = self.path / "stopped.json"
        self.report = self.path / "report"
        self.saved_model = self.path / "saved_model"
        self.results_file = self.path / "results.json"

    def state(self) -> RunState:
        """Returns how far the run in this directory is.

        Raises:
            RunError: If the path is a file, or a directory with other content than a run.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file; choose a directory with --run-dir.")
        if not self.path.exists() or not self._names():
            return RunState.NEW
        if not self._holds_run():
            raise RunError(
                f"{self.path} is not empty and holds no run, so nothing is written there. "
                f"Choose another directory with --run-dir."
            )
        return RunState.FINISHED if self.is_finished() else RunState.UNFINISHED

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training here; the directory and its parents are made.

        Raises:
            RunError: If another process trains here, or the directory cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / LOCK)
            lock.acquire(timeout=0)
        except Timeout:
            raise RunError(
                f"Another process is training in {self.path}. Wait for it or stop it, or choose "
                f"another directory with --run-dir."
            ) from None
        except OSError as error:
            raise RunError(f"{self.path} cannot be used: {error.strerror or error}.") from error
        try:
            yield
        finally:
            lock.release()

    def create(self, recipe: Recipe, overwrite: bool = False) -> None:
        """Starts a new run: removes the files of an earlier run, keeps all others.

        Args:
            recipe: The recipe to write.
            overwrite: Whether an earlier run may be replaced. Defaults to `False`.

        Raises:
            RunError: If there is an earlier run and `overwrite` is `False`, or the directory holds
                something else.
            WriteError: If the recipe cannot be written.
        """
        if self.state() is not RunState.NEW and not overwrite:
            raise RunError(
                f"There is a run in {self.path} already. Choose another directory with --run-dir, "
                f"or replace the earlier run with --overwrite."
            )
        # The two files that make the directory a run stay until they are replaced. A kill before
        # that would otherwise leave a directory that can neither be used nor overwritten.
        for path in self._written():
            if path in (self.recipe_file, self.plan_file):
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        self.write_recipe(recipe)

    def remove_partial(self) -> None:
        """Removes the incomplete files of a killed process."""
        for directory in (self.path, self.checkpoints, self.events):
            files.remove_partial(directory)

    def write_recipe(self, recipe: Recipe) -> None:
        """Writes the run's recipe.

        Raises:
            WriteError: If it cannot be written.
        """
        files.write_text(self.recipe_file, RUN_HEADER + recipe.to_yaml())

    def _written(self) -> list[Path]:
        return [path for path in vars(self).values() if path != self.path]

    def _names(self) -> set[str]:
        """Returns the names in the directory, without the leftovers of a run killed at once."""
        names = {path.name for path in self.path.iterdir()} - {LOCK}
        return {name for name in names if not name.startswith(files.PARTIAL)}

    def _holds_run(self) -> bool:
        if not self.recipe_file.is_file():
            return False
        if self.plan_file.is_file() or self._names() != {self.recipe_file.name}:
            return self.plan_file.is_file()
        # A run that was stopped before its second file has only its recipe. The header tells
        # it from a folder that holds any other recipe.
        return self.recipe_file.read_text(encoding="utf-8", errors="replace").startswith(RUN_HEADER)

    @classmethod
    def is_run(cls, path: str | Path) -> bool:
        """Returns whether a run was started in this directory."""
        return cls(path)._holds_run()

    def record_stop(self, epoch: int) -> None:
        """Records that a callback of the user's ended training after this epoch, counted from 1.

        Raises:
            WriteError: If the record cannot be written.
        """
        files.write_text(self.stop_file, json.dumps({"epoch": epoch}) + "\n")

    def stopped_after(self) -> int | None:
        """Returns the epoch after which a callback ended training, or `None`."""
        return self.read(self.stop_file)["epoch"] if self.stop_file.is_file() else None

    def finish(self, validation: dict[str, float] | None) -> None:
        """Writes the last file of a run, which marks it as finished.

        Args:
            validation: The figures of its evaluation; `None` without validation images.

        Raises:
            WriteError: If it cannot be written.
        """
        results = {"epochs": len(self.metrics()), "validation": validation}
        files.write_text(self.results_file, json.dumps(results, indent=2) + "\n")

    def reopen(self) -> None:
        """Makes a finished run an unfinished one, to train it for more epochs."""
        # In this order: without the first file a finished run is still a finished run.
        self.stop_file.unlink(missing_ok=True)
        self.results_file.unlink(missing_ok=True)

    def is_finished(self) -> bool:
        """Returns whether the run is complete, evaluation and export included."""
        return self.results_file.is_file()

    @classmethod
    def open(cls, path: str | Path) -> "RunDirectory":
        """Returns the directory of a run that was started.

        Raises:
            RunError: If there is no run in it.
        """
        if not cls.is_run(path):
            raise RunError(f"There is no run in {path}: it holds no recipe.yaml of a run.")
        return cls(path)

    def recipe(self) -> Recipe:
        """Returns the run's recipe with every default written out.

        Raises:
            RunError: If this version cannot read it.
        """
        try:
            return load_recipe(self.recipe_file)
        except RecipeError as error:
            raise RunError(
                f"The recipe of the run in {self.path} cannot be used by this version of "
                f"keras_convnext; {self.environment_file.name} there names the version that made "
                f"it.\n{error}"
            ) from error

    def class_names(self) -> tuple[str, ...]:
        """Returns the names of the classes, in the order of the network's outputs."""
        return tuple(self.read(self.classes_file))

    def read(self, file: Path) -> Any:
        """Returns the content of one of the run's JSON files.

        Raises:
            RunError: If it does not exist or is not JSON.
        """
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{file} cannot be read: {error}.") from error

    def model(self, state: str) -> Path:
        """Returns the file of one of the run's models.

        Args:
            state: `"last"`; `"best"` on the validation images; or `"best_ema"`, the best of the
                weights' moving average.

        Raises:
            RunError: If the run keeps no such model.
        """
        recipe = self.recipe()
        if state == "best_ema" and recipe.optimizer.ema_decay is None:
            raise RunError(
                f"The run in {self.path} kept no moving average of its weights: its recipe has no "
                f"optimizer.ema_decay."
            )
        if state != "last" and recipe.data.validation_split is None:
            raise RunError(
                f"The run in {self.path} has no validation images, so its best epoch is unknown: "
                f"its recipe has no data.validation_split. Use 'last'."
            )
        return {
            "last": self.last_model,
            "best": self.best_model,
            "best_ema": self.best_ema_model,
        }[state]

    def metrics(self) -> list[dict[str, float]]:
        """Returns the metrics of every epoch; see `MetricsFile`.

        Raises:
            RunError: If a line is not JSON.
        """
        return MetricsFile(self.metrics_file).rows()
