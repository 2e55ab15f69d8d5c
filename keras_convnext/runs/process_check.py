"""Checks that all processes of a run train the same recipe, with the same packages and data."""

import hashlib
from pathlib import Path
from typing import Any, Protocol

from keras_convnext import runtime
from keras_convnext.distribution.agreement import check_same
from keras_convnext.distribution.engine import Engine
from keras_convnext.recipe import Recipe

NAMES = 1000  # of images that are compared, spread evenly over a data set


class Images(Protocol):
    """What is compared of a split."""

    @property
    def size(self) -> int:
        """Number of images."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes."""

    def name_of(self, index: int) -> str:
        """Returns the image's name: its file, or its index."""


def check_same_program(engine: Engine, recipe: Recipe) -> None:
    """Raises a `UserError` in all processes if recipes, backends or package versions differ.

    The path of the data may differ; see `check_same_data`.
    """
    if engine.processes == 1:
        return
    facts = recipe.flat()
    del facts["data.path"]
    check_same(engine, "recipe", facts, "Start all of them with the same recipe and settings.")
    environment: dict[str, Any] = runtime.describe()
    facts = {"backend": environment["backend"], "python": environment["python"]}
    facts |= environment["packages"]
    check_same(engine, "packages", facts, "Install the same versions on every host.")


def check_same_data(engine: Engine, training: Images, validation: Images | None) -> None:
    """Raises a `UserError` in all processes if they do not read the same images."""
    if engine.processes == 1:
        return
    facts = _facts("training", training)
    if validation is not None:
        facts |= _facts("validation", validation)
    check_same(engine, "data", facts, "Every host must read the same images under data.path.")


def _facts(part: str, images: Images) -> dict[str, Any]:
    return {
        f"{part} images": images.size,
        f"{part} classes": ", ".join(images.class_names),
        f"hash of the {part} images' names": _hash_of_names(images),
    }


def _hash_of_names(images: Images) -> str:
    """Returns a hash of some images' names, each with its folder, without the path before."""
    step = max(images.size // NAMES, 1)
    names = (Path(images.name_of(index)).parts[-2:] for index in range(0, images.size, step))
    return hashlib.sha256(repr(list(names)).encode()).hexdigest()[:16]
