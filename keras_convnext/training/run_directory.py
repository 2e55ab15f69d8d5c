"""The directory of a run: one place for the name of everything in it."""

import json
import shutil
from pathlib import Path

from keras_convnext.errors import RunError
from keras_convnext.recipe import Recipe, load_recipe


class RunDirectory:
    """Where a run keeps its recipe, its metrics, its models and its report.

    Args:
        path: The directory, whether it is there or not; `open` takes only that of a run.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.recipe_file = self.path / "recipe.yaml"
        self.plan_file = self.path / "plan.json"
        self.classes_file = self.path / "classes.json"
        self.environment_file = self.path / "environment.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.best_model = self.path / "best.keras"
        self.best_ema_model = self.path / "best_ema.keras"
        self.last_model = self.path / "last.keras"
        self.report = self.path / "report"
        self.saved_model = self.path / "saved_model"

    def refuse_taken(self, overwrite: bool = False) -> None:
        """Raises a `RunError` if a new run cannot go here.

        Args:
            overwrite: Whether an earlier run may be replaced. What is no run never is.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file; choose a directory with --run-dir.")
        if not self.path.exists() or not any(self.path.iterdir()):
            return
        if not self.is_run(self.path):
            raise RunError(
                f"{self.path} is not empty and holds no run, so nothing is written there. "
                f"Choose another directory with --run-dir."
            )
        if not overwrite:
            raise RunError(
                f"There is a run in {self.path} already. Choose another directory with --run-dir, "
                f"or replace the earlier run with --overwrite."
            )

    def create(self, overwrite: bool = False) -> None:
        """Makes the directory of a new run, and its parents.

        What an earlier run wrote is removed; anything else in the directory stays.

        Args:
            overwrite: Whether there may be an earlier run.

        Raises:
            RunError: As `refuse_taken` does.
        """
        self.refuse_taken(overwrite)
        self.path.mkdir(parents=True, exist_ok=True)
        for written in vars(self).values():
            if written == self.path:
                continue
            if written.is_dir():
                shutil.rmtree(written)
            else:
                written.unlink(missing_ok=True)

    @classmethod
    def is_run(cls, path: str | Path) -> bool:
        """Whether a run was started in this directory."""
        run = cls(path)
        return run.recipe_file.is_file() and run.plan_file.is_file()

    @classmethod
    def open(cls, path: str | Path) -> "RunDirectory":
        """Returns the directory of a run that was started.

        Raises:
            RunError: If there is no run in it.
        """
        if not cls.is_run(path):
            raise RunError(f"There is no run in {path}: it holds no recipe.yaml and plan.json.")
        return cls(path)

    def recipe(self) -> Recipe:
        """Returns the run's recipe with every default written out."""
        return load_recipe(self.recipe_file)

    def class_names(self) -> tuple[str, ...]:
        """Returns the names of the classes, in the order of the network's outputs."""
        return tuple(json.loads(self.classes_file.read_text(encoding="utf-8")))

    def model(self, state: str) -> Path:
        """Returns the file of a state of the model.

        Args:
            state: `"last"`; `"best"` on the validation images; or `"best_ema"`, that of the
                weights' moving average.

        Raises:
            RunError: If the run keeps no average.
        """
        if state == "best_ema" and self.recipe().optimizer.ema_decay is None:
            raise RunError(
                f"The run in {self.path} kept no moving average of its weights: its recipe has no "
                f"optimizer.ema_decay."
            )
        return {
            "last": self.last_model,
            "best": self.best_model,
            "best_ema": self.best_ema_model,
        }[state]

    def metrics(self) -> list[dict[str, float]]:
        """Returns the metrics of every epoch."""
        return [json.loads(line) for line in self.metrics_file.read_text().splitlines()]
