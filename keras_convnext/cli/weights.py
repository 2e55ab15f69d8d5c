"""The commands `weights list`, `weights get` and `weights convert`."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_convnext.catalog.architectures import get_variant
from keras_convnext.catalog.checkpoints import CHECKPOINTS, Checkpoint, list_weights
from keras_convnext.cli.arguments import AsJson
from keras_convnext.cli.output import print_json, results
from keras_convnext.cli.tables import weights_table
from keras_convnext.runtime import start_quietly

app = typer.Typer(help="List, download or convert weights.", no_args_is_help=True)
WeightsSource = Annotated[
    str,
    typer.Argument(
        metavar="WEIGHTS",
        help="Name of a published checkpoint, file, directory, hf://owner/name or https URL.",
    ),
]


@app.command("list", epilog="Example: keras-convnext weights list --model convnext_tiny")
def list_(
    model: Annotated[str | None, typer.Option(help="Only the checkpoints of this model.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the published checkpoints."""
    rows = [CHECKPOINTS[name] for name in list_weights(model and get_variant(model).name)]
    if as_json:
        print_json([_document(row) for row in rows])
    else:
        results.print(weights_table(rows))


@app.command(epilog="Example: keras-convnext weights get convnext_tiny.fb_in1k")
def get(
    source: WeightsSource,
    official: Annotated[
        bool,
        typer.Option("--official", help="The official .pth, even if the Hub has another file."),
    ] = False,
) -> None:
    """Download weights, unless they are in the cache, and print their path."""
    from keras_convnext.weights.fetch import fetch

    results.print(str(fetch(source, official)))


@app.command(
    epilog="Example: keras-convnext weights convert runs/mine/best.keras mine.safetensors "
    "--format timm"
)
def convert(
    source: WeightsSource,
    output: Annotated[
        Path, typer.Argument(help="A .safetensors, .pth, .keras or .weights.h5 file.")
    ],
    format: Annotated[
        str | None,
        typer.Option(
            help="Names of the tensors in a .safetensors or .pth file: 'official', 'timm', "
            "'transformers', 'torchvision', or 'safetensors' for Keras's paths."
        ),
    ] = None,
) -> None:
    """Convert weights to another project's format, or to a Keras file."""
    from keras_convnext.conversion import KERAS_FILES, convert_weights

    if output.name.endswith(KERAS_FILES):
        start_quietly()
    results.print(str(convert_weights(source, output, format)))


def _document(row: Checkpoint) -> dict[str, Any]:
    """Returns a checkpoint's fields, with those of its preprocessing beside the others."""
    fields = dataclasses.asdict(row)
    preprocessing = fields.pop("preprocessing")
    return {"name": row.name, "url": row.url, **fields, **preprocessing}
