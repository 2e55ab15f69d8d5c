"""The directory of a run: one place for the name of everything in it."""

import contextlib
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

# Written first, and tells a run that was stopped at once from a folder that holds some recipe.
FIRST_LINE = RUN_HEADER
LOCK = ".lock"


class RunDirectory:
    """Where a run keeps its recipe, its metrics, its models and its report.

    Args:
        path: The directory, whether it is there or not; `open` takes only that of a run.
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
        self.report = self.path / "report"
        self.saved_model = self.path / "saved_model"
        self.results_file = self.path / "results.json"

    def refuse_taken(self, overwrite: bool = False) -> None:
        """Raises a `RunError` if nothing can be trained here, neither a new run nor this one on.

        Args:
            overwrite: Whether an earlier run may be replaced. What is no run never is.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file; choose a directory with --run-dir.")
        if self._is_free():
            return
        if not self.is_run(self.path):
            raise RunError(
                f"{self.path} is not empty and holds no run, so nothing is written there. "
                f"Choose another directory with --run-dir."
            )
        if self.is_finished() and not overwrite:
            raise RunError(
                f"There is a run in {self.path} already, and it is finished. Choose another "
                f"directory with --run-dir, or replace the earlier run with --overwrite."
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Within, no other process trains here; the directory and its parents are made.

        Raises:
            RunError: If another process does, or the directory cannot be made.
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
        """Begins a new run; what an earlier run wrote is removed, and anything else stays.

        Args:
            recipe: The recipe, which is written.
            overwrite: Whether there may be an earlier run.

        Raises:
            RunError: As `refuse_taken` does, or if there is a run and it may not be replaced.
            WriteError: If it cannot be written.
        """
        self.refuse_taken(overwrite)
        if self.is_run(self.path) and not overwrite:
            raise RunError(
                f"There is a run in {self.path} already. Choose another directory with --run-dir, "
                f"or replace the earlier run with --overwrite."
            )
        # What makes the directory a run stays until it is replaced, or a kill meanwhile would leave
        # a directory that may neither be used nor overwritten.
        for path in self._written():
            if path in (self.recipe_file, self.plan_file):
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        self.write_recipe(recipe)

    def remove_partial(self) -> None:
        """Removes what a killed process was writing."""
        for directory in (self.path, self.checkpoints, self.events):
            files.remove_partial(directory)

    def write_recipe(self, recipe: Recipe) -> None:
        """Writes the run's recipe.

        Raises:
            WriteError: If it cannot be written.
        """
        files.write_text(self.recipe_file, FIRST_LINE + recipe.to_yaml())

    def _written(self) -> list[Path]:
        return [path for path in vars(self).values() if path != self.path]

    def _is_free(self) -> bool:
        return not self.path.exists() or not self._names()

    def _names(self) -> set[str]:
        """Returns what is in the directory, but for what a run killed at once may have left."""
        names = {path.name for path in self.path.iterdir()} - {LOCK}
        return {name for name in names if not name.startswith(files.PARTIAL)}

    @classmethod
    def is_run(cls, path: str | Path) -> bool:
        """Whether a run was started in this directory."""
        run = cls(path)
        if not run.recipe_file.is_file():
            return False
        if run.plan_file.is_file() or run._names() != {run.recipe_file.name}:
            return run.plan_file.is_file()
        return run.recipe_file.read_text(encoding="utf-8", errors="replace").startswith(FIRST_LINE)

    def finish(self, validation: dict[str, float] | None) -> None:
        """Writes the last file of a run, which says that it has come to its end.

        Args:
            validation: The figures of its evaluation; `None` if it has no validation images.

        Raises:
            WriteError: If it cannot be written.
        """
        results = {"epochs": len(self.metrics()), "validation": validation}
        files.write_text(self.results_file, json.dumps(results, indent=2) + "\n")

    def begin_again(self) -> None:
        """Makes a finished run an unfinished one, which is to have more epochs."""
        self.results_file.unlink(missing_ok=True)

    def is_finished(self) -> bool:
        """Whether the run has come to its end, evaluation and export included."""
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
        """Returns what one of the run's JSON files holds.

        Raises:
            RunError: If it is not there or is no JSON.
        """
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{file} cannot be read: {error}.") from error

    def model(self, state: str) -> Path:
        """Returns the file of a state of the model.

        Args:
            state: `"last"`; `"best"` on the validation images; or `"best_ema"`, that of the
                weights' moving average.

        Raises:
            RunError: If the run keeps no such state.
        """
        recipe = self.recipe()
        if state == "best_ema" and recipe.optimizer.ema_decay is None:
            raise RunError(
                f"The run in {self.path} kept no moving average of its weights: its recipe has no "
                f"optimizer.ema_decay."
            )
        if state != "last" and recipe.data.validation_split is None:
            raise RunError(
                f"The run in {self.path} has no validation images, so none of its states is known "
                f"to be the best: its recipe has no data.validation_split. Take 'last'."
            )
        return {
            "last": self.last_model,
            "best": self.best_model,
            "best_ema": self.best_ema_model,
        }[state]

    def metrics(self) -> list[dict[str, float]]:
        """Returns the metrics of every epoch; a line that was not written to its end is left out.

        Raises:
            RunError: If a line is no JSON.
        """
        return [self._row(line) for line in self._metrics_lines()]

    def cut_metrics(self, epoch: int) -> None:
        """Removes the metrics of later epochs, and a line that was not written to its end.

        Raises:
            RunError: If the metrics of an epoch up to this one are missing.
            WriteError: If they cannot be written; they stay as they were.
        """
        kept = [line for line in self._metrics_lines() if self._row(line)["epoch"] <= epoch]
        if [self._row(line)["epoch"] for line in kept] != list(range(1, epoch + 1)):
            raise RunError(
                f"{self.metrics_file} does not hold the {epoch} epochs up to the run's newest "
                f"checkpoint, so the run cannot be gone on with. Put the file back, choose another "
                f"directory with --run-dir, or begin anew with --overwrite."
            )
        files.write_text(self.metrics_file, "".join(kept))

    def _metrics_lines(self) -> list[str]:
        if not self.metrics_file.exists():
            return []
        lines = self.metrics_file.read_text(encoding="utf-8").splitlines(keepends=True)
        return [line for line in lines if line.endswith("\n")]

    def _row(self, line: str) -> dict[str, float]:
        try:
            return json.loads(line)
        except ValueError:
            raise RunError(
                f"{self.metrics_file} holds a line that is no JSON: {line!r}. Remove the line or "
                f"put the file back."
            ) from None
