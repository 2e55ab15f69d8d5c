"""The commands `recipe list`, `recipe copy`, `recipe check` and `recipe show`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from keras_convnext.cli.arguments import AsJson, Overrides, Recipe
from keras_convnext.cli.output import print_json, print_wrapped, results
from keras_convnext.cli.tables import recipes_table
from keras_convnext.errors import RecipeError
from keras_convnext.files import check_absent, expanded, write_text
from keras_convnext.recipe import load_recipe
from keras_convnext.recipe.shipped import read_header, shipped_recipes, similar_name

app = typer.Typer(
    help="List and copy the recipes of the package; check or show any recipe.",
    no_args_is_help=True,
)


@app.command("list", epilog="Example: keras-convnext recipe list")
def list_(as_json: AsJson = False) -> None:
    """List the recipes that come with the package."""
    headers = [read_header(name) for name in shipped_recipes()]
    if as_json:
        print_json([dataclasses.asdict(header) for header in headers])
    else:
        print_wrapped(recipes_table(headers))


@app.command(epilog="Example: keras-convnext recipe copy quickstart/folder mine.yaml")
def copy(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name that `keras-convnext recipe list` lists.")
    ],
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="File to write. Defaults to the last part of NAME."),
    ] = None,
) -> None:
    """Copy a recipe of the package to a file, to change it."""
    recipe = shipped_recipes().get(name)
    if recipe is None:
        similar = similar_name(name)
        raise RecipeError(
            f"There is no recipe called {name!r}. "
            + (f"Did you mean {similar!r}? " if similar else "")
            + "`keras-convnext recipe list` lists the names."
        )
    path = Path(recipe.name) if file is None else expanded(file)
    check_absent(path)
    write_text(path, recipe.read_text(encoding="utf-8"))
    results.print(str(path))


@app.command(epilog="Example: keras-convnext recipe check quickstart/digits schedule.epochs=20")
def check(recipe: Recipe, settings: Overrides = None) -> None:
    """Check whether a recipe is valid, and print every error in it."""
    load_recipe(recipe, settings or [])
    results.print(f"{recipe}: no errors")


@app.command(epilog="Example: keras-convnext recipe show quickstart/digits")
def show(recipe: Recipe, settings: Overrides = None) -> None:
    """Print a recipe with every default."""
    print(load_recipe(recipe, settings or []).to_yaml(), end="")  # noqa: T201 (YAML, unwrapped)
