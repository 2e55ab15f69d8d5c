"""The commands `predict` and `export`."""

import itertools
from pathlib import Path
from typing import Annotated

import typer

from keras_convnext.cli.arguments import AsJson, BadImages, Checkpoint, Source
from keras_convnext.cli.output import print_json, results
from keras_convnext.cli.tables import predictions_table
from keras_convnext.errors import UserError
from keras_convnext.runtime import start_quietly
from keras_convnext.text import counted

SHOWN = 1000  # images in a table


def predict(
    source: Source,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE|FOLDER|PATTERN|-...",
            help="Image files, folders to search recursively, patterns such as 'photos/**/*.jpg', "
            "and - for names on standard input.",
        ),
    ],
    top: Annotated[int, typer.Option(min=1, help="Number of classes to show per image.")] = 5,
    checkpoint: Checkpoint = "last",
    on_bad_image: Annotated[
        str, typer.Option(help="What to do with files that are not images: 'error' or 'skip'.")
    ] = "error",
    output: Annotated[
        Path | None,
        typer.Option(
            help="Write a .csv, .jsonl or .parquet file, for any number of images. After an "
            "interruption the same command resumes."
        ),
    ] = None,
    features: Annotated[
        bool,
        typer.Option(
            "--features", help="Write the features (embeddings) of the images, not their classes."
        ),
    ] = False,
    explain: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Draw what speaks for the most probable class (Grad-CAM)."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print or write the most probable classes of images."""
    if features and output is None and not as_json:
        raise UserError("--features are too many numbers for a table: add --output FILE or --json.")
    start_quietly()
    from keras_convnext.prediction.predict_files import predict_files

    rows = predict_files(source, images, top, checkpoint, on_bad_image, features, output, explain)
    if output is not None:
        count = sum(1 for _ in rows)
        results.print(f"{output}: {counted(count, 'image')}")
    elif as_json:
        print_json({row.image: row.values() for row in rows if row.error is None})
    else:
        shown = list(itertools.islice(rows, SHOWN))
        hidden = sum(1 for _ in rows)
        results.print(predictions_table(shown))
        if hidden:
            results.print(f"and {counted(hidden, 'image')} more, which --output FILE would write.")


def export(
    source: Source,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Where to write. For a run, defaults to its saved_model, model.onnx or model.xml."
        ),
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            help="'saved_model' for TensorFlow Serving, 'onnx' for ONNX Runtime, or 'openvino'."
        ),
    ] = "saved_model",
    checkpoint: Checkpoint = "last",
    precision: Annotated[
        str, typer.Option(help="'float32', or with onnx and openvino also 'int8'.")
    ] = "float32",
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|tfds:NAME",
            help="Images to calibrate int8 with; they should resemble the images to predict. "
            "Defaults to the run's training images.",
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of a tfds: data set, such as 'train'.")
    ] = None,
    on_bad_image: BadImages = None,
) -> None:
    """Export a run, a published checkpoint or a model for serving."""
    start_quietly()
    from keras_convnext.serving.export import export as write

    place = write(source, output, format, checkpoint, precision, data, split, on_bad_image)
    results.print(str(place))
