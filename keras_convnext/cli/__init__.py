"""The command line `keras-convnext`.

A command parses its arguments, calls a function of the package and prints the result. The package's
modules are imported inside the commands, so that `--help`, `models` and `recipe check` start
without a backend.
"""

import logging

import typer

from keras_convnext.cli import benchmark, models, recipes, runs, serving, weights
from keras_convnext.console import NoticeHandler, make_console, show_any_text
from keras_convnext.errors import SharedError, UserError

app = typer.Typer(
    help="ConvNeXt for Keras 3: train, evaluate, predict and export.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command, example in (
    (runs.train, "train quickstart/digits runtime.seed=1"),
    (runs.evaluate, "evaluate runs/digits --checkpoint best"),
    (serving.predict, "predict convnext_tiny.fb_in1k cat.jpg --top 3"),
    (serving.export, "export runs/digits --format openvino --precision int8"),
    (benchmark.benchmark, "benchmark --backend jax --backend torch --compare ResNet50"),
    (models.models, "models"),
):
    app.command(epilog=f"Example: keras-convnext {example}")(command)
app.add_typer(recipes.app, name="recipe")
app.add_typer(weights.app, name="weights")

notice_handler = NoticeHandler()


def main() -> None:
    """Runs the command line. A `UserError` is printed as a sentence, with exit status 1."""
    show_any_text()
    logging.getLogger("keras_convnext").addHandler(notice_handler)
    try:
        app()
    except SharedError:
        raise SystemExit(1) from None
    except UserError as error:
        make_console(stderr=True).print(str(error), style="red", soft_wrap=True)
        raise SystemExit(1) from None
