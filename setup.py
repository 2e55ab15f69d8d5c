"""Adds the folder `recipes` to the package in a wheel; pyproject.toml has everything else."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

RECIPES = Path("recipes")


class BuildWithRecipes(build_py):
    """Copies the recipes to keras_convnext/recipes.

    An editable install needs no copy: it reads them from the checkout.
    """

    def run(self) -> None:
        """Builds the package, then copies the recipes."""
        super().run()
        if not self.editable_mode:
            for recipe in RECIPES.rglob("*.yaml"):
                copy = Path(self.build_lib, "keras_convnext", recipe)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(recipe, copy)


setup(cmdclass={"build_py": BuildWithRecipes})
