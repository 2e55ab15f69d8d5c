"""The commands `predict` and `export`."""

from pathlib import Path
from typing import Annotated

import typer

from keras_convnext.cli.arguments import AsJson, BadImages, Checkpoint, Source
from keras_convnext.cli.output import print_json, results
from keras_convnext.cli.tables import predictions_table
from keras_convnext.runtime import start_quietly


def predict(
    source: Source,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE|FOLDER...", help="Image files, and folders to search recursively."
        ),
    ],
    top: Annotated[int, typer.Option(min=1, help="Number of classes to show per image.")] = 5,
    checkpoint: Checkpoint = "last",
    on_bad_image: Annotated[
        str, typer.Option(help="What to do with files that are not images: 'error' or 'skip'.")
    ] = "error",
    as_json: AsJson = False,
) -> None:
    """Print the most probable classes of images."""
    start_quietly()
    from keras_convnext.serving.image_files import predict_files

    ranked = predict_files(source, images, top, checkpoint, on_bad_image)
    if as_json:
        rows = {
            str(image): {prediction.label: prediction.probability for prediction in best}
            for image, best in ranked
        }
        print_json(rows)
    else:
        results.print(predictions_table(ranked))


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
