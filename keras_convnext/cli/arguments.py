"""Arguments and options that several commands share."""

from typing import Annotated

import typer

from keras_convnext.errors import UserError

Recipe = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="Name that `keras-convnext recipe list` lists, or a YAML file."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Keys to override, as in schedule.epochs=10."),
]
Source = Annotated[
    str,
    typer.Argument(
        metavar="RUN|WEIGHTS|MODEL",
        help="Directory of a run, name of a published checkpoint, or a .keras file.",
    ),
]
Checkpoint = Annotated[
    str,
    typer.Option(
        help="Checkpoint of a run: 'last', 'best' on the validation images, or 'best_ema', the "
        "best EMA weights."
    ),
]
BadImages = Annotated[
    str | None,
    typer.Option(
        help="What to do with files that are not images: 'error' or 'skip'. Defaults to the "
        "recipe's data.on_bad_image for a run's own images, and to 'error' for --data."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def check_choice(option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises a `UserError` if the value of an option is not one of the allowed ones."""
    if value not in allowed:
        raise UserError(f"{option} must be one of {', '.join(allowed)}. Received: {value!r}.")
