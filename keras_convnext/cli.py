"""The command line: argv to the functions of the package, and their results to the terminal.

What a command needs is imported when it runs, so that `--help`, `models` and `recipe check` do not
wait for a backend.
"""

import dataclasses
import json
import logging
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from keras_convnext.console import NoticeHandler, make_console, show_any_text
from keras_convnext.console import console as notices
from keras_convnext.errors import UserError
from keras_convnext.files import expanded
from keras_convnext.runtime import default_backend, refuse_missing, start_quietly

# Wider than any table: rich would cut names and paths to make one fit, and they are to be copied.
results = make_console(width=10_000)
notice_handler = NoticeHandler()
app = typer.Typer(
    help="ConvNeXt for Keras 3: train, evaluate, predict and export.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
recipes = typer.Typer(help="Check a recipe, or show it with every default.", no_args_is_help=True)
app.add_typer(recipes, name="recipe")
weights = typer.Typer(help="List, fetch or convert weights.", no_args_is_help=True)
app.add_typer(weights, name="weights")

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change, as schedule.epochs=10."),
]
Source = Annotated[
    str,
    typer.Argument(
        metavar="RUN|WEIGHTS|MODEL",
        help="Directory of a run, name of a published checkpoint, or a .keras file.",
    ),
]
WeightsSource = Annotated[
    str,
    typer.Argument(
        metavar="WEIGHTS",
        help="Name of a published checkpoint, file, directory, hf://owner/name or https address.",
    ),
]
Checkpoint = Annotated[
    str,
    typer.Option(
        help="Of a run: 'last', 'best' on the validation images, or 'best_ema', the best average."
    ),
]
BadImages = Annotated[
    str | None,
    typer.Option(
        help="Files that are no images: 'error' or 'skip'. Defaults to the recipe's choice for a "
        "run's own images, and to 'error' for --data."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command(epilog="Example: keras-convnext train recipes/quickstart/digits.yaml runtime.seed=1")
def train(
    recipe: RecipeFile,
    settings: Overrides = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Where the run goes. Defaults to runs/NAME.")
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            help="Replace an earlier run there; without it, one that was stopped goes on, and a "
            "finished one with more schedule.epochs where schedule.name is step."
        ),
    ] = False,
) -> None:
    """Train what a recipe describes; evaluate, report and export it."""
    from keras_convnext.recipe import load_recipe

    checked = load_recipe(recipe, settings or [])
    start_quietly(checked.runtime.backend, checked.runtime.deterministic)
    from keras_convnext import workflows

    run, evaluation = workflows.train(checked, run_dir, overwrite)
    if evaluation is None:
        results.print("no validation images, so nothing is evaluated")
    else:
        _print_figures(evaluation.summary(), "validation")
    results.print(f"report: {run.report}")
    if checked.export.saved_model:
        results.print(f"SavedModel: {run.saved_model}")


@app.command(epilog="Example: keras-convnext evaluate runs/digits --checkpoint best")
def evaluate(
    source: Source,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|tfds:NAME",
            help="Folder of class folders, or a data set that TensorFlow Datasets has prepared. "
            "Defaults to the run's validation images.",
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Which part of a tfds: data set, such as 'test'.")
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
        print(json.dumps(figures))  # noqa: T201 (rich would wrap it)
    else:
        _print_figures(figures, str(data or source))


@app.command(epilog="Example: keras-convnext predict convnext_tiny.fb_in1k cat.jpg --top 3")
def predict(
    source: Source,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE|FOLDER...", help="Image files, and folders of them with all below."
        ),
    ],
    top: Annotated[int, typer.Option(min=1, help="Classes to show for each image.")] = 5,
    checkpoint: Checkpoint = "last",
    on_bad_image: Annotated[
        str, typer.Option(help="Files that are no images: 'error' or 'skip'.")
    ] = "error",
    as_json: AsJson = False,
) -> None:
    """Name what images show, most probable first."""
    _one_of("--on-bad-image", on_bad_image, ("error", "skip"))
    start_quietly()
    from keras_convnext.serving.image_files import predict_files

    ranked = predict_files(source, images, top, checkpoint, on_bad_image)
    if as_json:
        rows = {
            str(image): {prediction.label: prediction.probability for prediction in best}
            for image, best in ranked
        }
        print(json.dumps(rows))  # noqa: T201 (rich would wrap it)
        return
    table = Table("image", "class", "probability")
    for image, best in ranked:
        for place, prediction in enumerate(best):
            name = "" if place else str(image)
            table.add_row(name, prediction.label, f"{prediction.probability:.2%}")
        table.add_section()
    results.print(table)


@app.command(epilog="Example: keras-convnext export runs/digits --format openvino --precision int8")
def export(
    source: Source,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Where to. Of a run, defaults to its saved_model, model.onnx or model.xml."
        ),
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            help="'saved_model', for TensorFlow Serving; 'onnx', for ONNX Runtime; or 'openvino'."
        ),
    ] = "saved_model",
    checkpoint: Checkpoint = "last",
    precision: Annotated[
        str, typer.Option(help="'float32'; of onnx and openvino also 'int8'.")
    ] = "float32",
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|tfds:NAME",
            help="Images like those to come, which choose the ranges of int8. Defaults to the "
            "run's training images.",
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Which part of a tfds: data set, such as 'train'.")
    ] = None,
    on_bad_image: BadImages = None,
) -> None:
    """Write a run, a published checkpoint or a model in a form that can be served."""
    start_quietly()
    from keras_convnext.serving.export import export as write

    place = write(source, output, format, checkpoint, precision, data, split, on_bad_image)
    results.print(str(place))


@app.command(
    epilog="Example: keras-convnext benchmark --backend jax --backend torch --compare ResNet50"
)
def benchmark(
    model: Annotated[str, typer.Option(help="One of ours; see keras-convnext models.")] = (
        "convnext_tiny"
    ),
    backend: Annotated[
        list[str] | None,
        typer.Option(help="Keras backend; may be given again. Defaults to Keras's own choice."),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="'float32' or 'bfloat16'; may be given again. Defaults to both."),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            help="'keras.applications', 'timm', 'timm compiled' or 'transformers'; may be given "
            "again. Defaults to keras.applications and timm or, without it, transformers."
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NETWORK",
            help="Any other network of keras.applications, such as ResNet50, or of timm, such as "
            "timm:regnety_016; with @380 on images of that size. May be given again.",
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="'forward' or 'train'; may be given again. Defaults to both."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a call.")] = 8,
    image_size: Annotated[int, typer.Option(min=32, help="Their side in pixels.")] = 224,
    rounds: Annotated[int, typer.Option(min=1, help="Calls that are counted.")] = 7,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for benchmark.json and benchmark.png; made if it is not there."),
    ] = None,
) -> None:
    """Time a network on this machine beside the same network of other projects.

    Every network runs in a process of its own; they are called in turn, and the medians shown.
    """
    if output is not None:
        refuse_missing({"matplotlib": "matplotlib, which draws the chart,"}, "train")
    from keras_convnext.benchmark.candidates import PRECISIONS, candidates, extra_candidates
    from keras_convnext.benchmark.comparison import TASKS
    from keras_convnext.benchmark.comparison import compare as time_side_by_side

    for one in task or ():
        _one_of("--task", one, TASKS)
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


@app.command(epilog="Example: keras-convnext models")
def models() -> None:
    """List the models with their sizes."""
    from keras_convnext.catalog.architectures import VARIANTS

    table = Table("name", "blocks", "channels")
    for title in ("parameters", "GMACs at 224", "GMACs at 384"):
        table.add_column(title, justify="right")
    for row in VARIANTS.values():
        table.add_row(
            row.name,
            ", ".join(map(str, row.depths)),
            ", ".join(map(str, row.dims)),
            f"{row.parameters:,}",
            f"{row.gmacs_224:.2f}",
            f"{row.gmacs_384:.2f}",
        )
    results.print(table)


@weights.command("list", epilog="Example: keras-convnext weights list --model convnext_tiny")
def list_(
    model: Annotated[str | None, typer.Option(help="Only the checkpoints of this model.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the published checkpoints."""
    from keras_convnext.catalog.architectures import get_variant
    from keras_convnext.catalog.checkpoints import CHECKPOINTS, list_weights

    rows = [CHECKPOINTS[name] for name in list_weights(model and get_variant(model).name)]
    if as_json:
        document = [
            {
                "name": row.name,
                "url": row.url,
                **dataclasses.asdict(row),
                **dataclasses.asdict(row.preprocessing),
            }
            for row in rows
        ]
        for fields in document:
            del fields["preprocessing"]
        print(json.dumps(document))  # noqa: T201 (rich would wrap it)
        return
    table = Table("name")
    for title in ("classes", "size", "top-1 %", "timm's top-1 %"):
        table.add_column(title, justify="right")
    for title in ("evaluated on", "licence", "Hugging Face Hub", "official file"):
        table.add_column(title)
    for row in rows:
        table.add_row(
            row.name,
            str(row.classes),
            str(row.image_size),
            _percent(row.top_1, 1),
            _percent(row.top_1_timm, 3),
            "whole image, warped" if row.warp else f"centre crop, {row.crop_fraction:g}",
            row.licence,
            row.hub or "",
            row.file,
        )
    results.print(table)


@weights.command(epilog="Example: keras-convnext weights get convnext_tiny.fb_in1k")
def get(
    source: WeightsSource,
    official: Annotated[
        bool, typer.Option("--official", help="The official .pth even where the Hub has another.")
    ] = False,
) -> None:
    """Fetch weights, unless they are here already, and print where they are."""
    from keras_convnext.weights.fetch import fetch

    results.print(str(fetch(source, official)))


@weights.command(
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
            help="Of .safetensors and .pth, whose names: 'official', 'timm', 'transformers', "
            "'torchvision', or 'safetensors' for Keras's paths."
        ),
    ] = None,
) -> None:
    """Write weights in another project's form, or as a Keras file."""
    from keras_convnext.conversion import KERAS_FILES, convert_weights

    if output.name.endswith(KERAS_FILES):
        start_quietly()
    results.print(str(convert_weights(source, output, format)))


@recipes.command(epilog="Example: keras-convnext recipe check recipes/quickstart/digits.yaml")
def check(recipe: RecipeFile, settings: Overrides = None) -> None:
    """Say whether a recipe can be run, or everything that is wrong with it."""
    from keras_convnext.recipe import load_recipe

    load_recipe(recipe, settings or [])
    results.print(f"{recipe}: no errors")


@recipes.command(epilog="Example: keras-convnext recipe show recipes/quickstart/digits.yaml")
def show(recipe: RecipeFile, settings: Overrides = None) -> None:
    """Print a recipe with every default written out."""
    from keras_convnext.recipe import load_recipe

    print(load_recipe(recipe, settings or []).to_yaml(), end="")  # noqa: T201 (YAML, unwrapped)


def _percent(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"{option} must be one of {', '.join(allowed)}. Received: {value!r}.")


def _print_figures(figures: dict[str, float], title: str) -> None:
    results.print(title)
    table = Table("top-1", "top-5", "loss", "mistakes", "images")
    table.add_row(
        f"{figures['top_1']:.2%}",
        f"{figures['top_5']:.2%}",
        f"{figures['loss']:.4f}",
        f"{figures['mistakes']:,}",
        f"{figures['images']:,}",
    )
    results.print(table)


def main() -> None:
    """Runs the command line; what the user can mend is said in a sentence, with exit status 1."""
    show_any_text()
    logging.getLogger("keras_convnext").addHandler(notice_handler)
    try:
        app()
    except UserError as error:
        notices.print(str(error), style="red", soft_wrap=True)
        raise SystemExit(1) from None
