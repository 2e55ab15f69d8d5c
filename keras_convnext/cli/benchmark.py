"""The command `benchmark`."""

from pathlib import Path
from typing import Annotated

import typer

from keras_convnext.cli.arguments import check_choice
from keras_convnext.cli.output import results
from keras_convnext.files import expanded
from keras_convnext.runtime import check_installed, default_backend


def benchmark(
    model: Annotated[
        str, typer.Option(help="A model that `keras-convnext models` lists.")
    ] = "convnext_tiny",
    backend: Annotated[
        list[str] | None,
        typer.Option(help="Keras backend; repeatable. Defaults to Keras's own choice."),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="'float32' or 'bfloat16'; repeatable. Defaults to both."),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            help="Another implementation of the model: 'keras.applications', 'timm', 'timm "
            "compiled' or 'transformers'; repeatable. Defaults to keras.applications and timm, or "
            "transformers if timm is not installed."
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NETWORK",
            help="Another network: of keras.applications, such as ResNet50, or of timm, such as "
            "timm:regnety_016; @380 appended sets its image size. Repeatable.",
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="'forward' or 'train'; repeatable. Defaults to both."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Number of images per call.")] = 8,
    image_size: Annotated[
        int, typer.Option(min=32, help="Height and width of the images, in pixels.")
    ] = 224,
    rounds: Annotated[int, typer.Option(min=1, help="Number of timed calls.")] = 7,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for benchmark.json and benchmark.png; created if missing."),
    ] = None,
) -> None:
    """Time a network on this machine beside the same network of other projects.

    Every network runs in its own process. The networks are called in turn, and the table shows the
    medians.
    """
    if output is not None:
        check_installed({"matplotlib": "matplotlib, which draws the chart,"}, "train")
    from keras_convnext.benchmark.candidates import PRECISIONS, candidates, extra_candidates
    from keras_convnext.benchmark.comparison import TASKS
    from keras_convnext.benchmark.comparison import compare as time_side_by_side

    for one in task or ():
        check_choice("--task", one, TASKS)
    backends, precisions = backend or [default_backend()], precision or list(PRECISIONS)
    everyone = [
        *candidates(model, backends, precisions, peer),
        *extra_candidates(compare or [], backends, precisions),
    ]
    document = time_side_by_side(everyone, batch_size, image_size, rounds, task or TASKS)
    from keras_convnext.benchmark.report import ratio_table, speed_table, write_report

    results.print(speed_table(document))
    results.print(ratio_table(document))
    if output is not None:
        folder = expanded(output)
        write_report(document, folder)
        results.print(f"report: {folder}")
