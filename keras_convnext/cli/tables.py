"""The tables that commands print."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table

from keras_convnext.catalog.architectures import Network
from keras_convnext.catalog.checkpoints import Checkpoint
from keras_convnext.recipe.shipped import RecipeHeader

if TYPE_CHECKING:  # which imports a backend
    from keras_convnext.prediction.rows import Row


def figures_table(figures: dict[str, float]) -> Table:
    """Returns the figures of an evaluation: a classifier's formatted, any other as they are."""
    if "top_1" not in figures:
        table = Table(*figures)
        table.add_row(*(f"{n:,}" if isinstance(n, int) else f"{n:.4g}" for n in figures.values()))
        return table
    table = Table("top-1", "top-5", "loss", "mistakes", "images")
    table.add_row(
        f"{figures['top_1']:.2%}",
        f"{figures['top_5']:.2%}",
        f"{figures['loss']:.4f}",
        f"{figures['mistakes']:,}",
        f"{figures['images']:,}",
    )
    return table


def predictions_table(rows: "Iterable[Row]") -> Table:
    """Returns the most probable classes of each image that can be read."""
    table = Table("image", "class", "probability")
    for row in rows:
        for place, prediction in enumerate(row.predictions):
            name = "" if place else row.image
            table.add_row(name, prediction.label, f"{prediction.probability:.2%}")
        table.add_section()
    return table


def models_table(networks: Iterable[Network]) -> Table:
    """Returns the networks with their sizes."""
    table = Table("name", "blocks", "channels")
    for title in ("parameters", "GMACs at 224", "GMACs at 384"):
        table.add_column(title, justify="right")
    for row in networks:
        table.add_row(
            row.name,
            ", ".join(map(str, row.depths)),
            ", ".join(map(str, row.dims)),
            f"{row.parameters:,}",
            f"{row.gmacs_224:.2f}",
            f"{row.gmacs_384:.2f}",
        )
    return table


def weights_table(checkpoints: Iterable[Checkpoint]) -> Table:
    """Returns the published checkpoints."""
    table = Table("name")
    for title in ("classes", "size", "top-1 %", "timm's top-1 %"):
        table.add_column(title, justify="right")
    for title in ("evaluated on", "licence", "Hugging Face Hub", "official file"):
        table.add_column(title)
    for row in checkpoints:
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
    return table


def recipes_table(headers: Iterable[RecipeHeader]) -> Table:
    """Returns the recipes that come with the package."""
    table = Table()
    table.add_column("name", no_wrap=True)
    for title in ("trains", "expected", "source", "devices"):
        table.add_column(title, overflow="fold")
    for row in headers:
        table.add_row(row.name, row.trains, row.expected, row.source, row.devices)
    return table


def _percent(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
