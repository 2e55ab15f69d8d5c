"""The commands `train` and `evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from keras_convnext.cli.arguments import AsJson, BadImages, Checkpoint, Overrides, Recipe, Source
from keras_convnext.cli.output import print_json, results
from keras_convnext.cli.tables import figures_table
from keras_convnext.runtime import start_quietly


def train(
    recipe: Recipe,
    settings: Overrides = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Directory of the run. Defaults to runs/NAME.")
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            help="Replace an earlier run in the directory. Without it, an unfinished run is "
            "resumed; so is a finished one with more schedule.epochs, if schedule.name is step."
        ),
    ] = False,
) -> None:
    """Train, evaluate and export a network as a recipe describes."""
    from keras_convnext.recipe import load_recipe

    checked = load_recipe(recipe, settings or [])
    start_quietly(checked.runtime.backend, checked.runtime.deterministic)
    from keras_convnext import workflows

    run, evaluation = workflows.train(checked, run_dir, overwrite)
    if evaluation is None:
        results.print("no validation images, so nothing is evaluated")
    else:
        results.print("validation")
        results.print(figures_table(evaluation.summary()))
    results.print(f"report: {run.report}")
    if checked.export.saved_model:
        results.print(f"SavedModel: {run.saved_model}")


def evaluate(
    source: Source,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|tfds:NAME",
            help="Folder with one folder of images per class, or a data set that TensorFlow "
            "Datasets has prepared. Defaults to the run's validation images.",
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of a tfds: data set, such as 'test'.")
    ] = None,
    checkpoint: Checkpoint = "last",
    on_bad_image: BadImages = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a run, a published checkpoint or a model."""
    start_quietly()
    from keras_convnext import workflows

    figures = workflows.evaluate(source, data, checkpoint, on_bad_image, split).summary()
    if as_json:
        print_json(figures)
    else:
        results.print(str(data or source))
        results.print(figures_table(figures))
