"""The results of a comparison as tables for the terminal and as a chart."""

import json
from pathlib import Path

import numpy as np
from rich.table import Table

from keras_convnext.benchmark.comparison import label_of, ratios
from keras_convnext.errors import MissingPackage

TITLES = {"forward": "forward", "train": "train step"}


def speed_table(document: dict) -> Table:
    """Returns a table with a row for each candidate: speed, memory, time of the first calls."""
    tasks = _tasks(document)
    table = Table("network", "precision", title=_settings(document))
    table.add_column("parameters", justify="right")
    for task in tasks:
        table.add_column(f"{TITLES[task]}\nimages/s", justify="right")
        table.add_column("ms/image", justify="right")
        table.add_column("first call", justify="right")
    if "train" in tasks:
        table.add_column("train step\nmemory", justify="right")
    table.add_column("building", justify="right")
    for row in document["results"]:
        cells = [label_of(row), row["precision"], f"{row['parameters'] / 1e6:.1f} M"]
        for task in tasks:
            rate = row["images_per_second"][task]
            cells += [
                f"{rate:.1f}",
                f"{1000 / rate:.1f}",
                f"{row['first_call_seconds'][task]:.1f} s",
            ]
        if "train" in tasks:
            memory = row["train_memory_mib"]
            cells.append("" if memory is None else f"{memory:,.0f} MiB")
        table.add_row(*cells, f"{row['build_seconds']:.1f} s")
    return table


def ratio_table(document: dict) -> Table:
    """Returns a table with the ratios of speed and memory for each pair of ours and a peer."""
    tasks = _tasks(document)
    table = Table("ours", "against", "precision", title="times as fast as")
    for task in tasks:
        table.add_column(TITLES[task], justify="right")
    if "train" in tasks:
        table.add_column("memory, theirs / ours", justify="right")
    for row in ratios(document):
        cells = [row["ours"], row["peer"], row["precision"]]
        cells += [f"{row[task]:.2f}" for task in tasks]
        if "train" in tasks:
            cells.append("" if row["memory"] is None else f"{row['memory']:.2f}")
        table.add_row(*cells)
    return table


def write_report(document: dict, folder: Path) -> None:
    """Writes `benchmark.json` and `benchmark.png` into a folder, and creates the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmark.json").write_text(json.dumps(document, indent=2) + "\n")
    write_chart(document, folder / "benchmark.png")


def write_chart(document: dict, path: str | Path) -> None:
    """Draws the images per second as a bar chart with a panel for each task.

    Args:
        document: The result of `compare`.
        path: A `.png` file.

    Raises:
        MissingPackage: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackage("matplotlib, which draws the chart,", "train") from None
    tasks, rows = _tasks(document), document["results"]
    precisions = list(dict.fromkeys(row["precision"] for row in rows))
    labels = list(dict.fromkeys(label_of(row) for row in rows))
    thickness = 0.8 / len(precisions)
    height = 1.7 + 0.3 * len(labels) * (0.6 + 0.4 * len(precisions))
    figure = Figure(figsize=(4.2 + 3.6 * len(tasks), height), layout="constrained")
    figure.suptitle(_settings(document), fontsize=10, parse_math=False)
    panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    for axes, task in zip(panels, tasks, strict=True):
        for number, precision in enumerate(precisions):
            shown = [row for row in rows if row["precision"] == precision]
            places = [labels.index(label_of(row)) + thickness * number for row in shown]
            rates = [row["images_per_second"][task] for row in shown]
            bars = axes.barh(places, rates, thickness * 0.95, label=precision)
            axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
        axes.margins(x=0.15)
        axes.set(xlabel="images/s", title=TITLES[task])
        axes.grid(axis="x", alpha=0.3)
    middle = thickness * (len(precisions) - 1) / 2
    panels[0].set_yticks(np.arange(len(labels)) + middle, labels, parse_math=False)
    panels[0].invert_yaxis()
    if len(precisions) > 1:
        # Below the panels: inside one it would cover a bar.
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=8)
    figure.savefig(path, dpi=120)


def _tasks(document: dict) -> list[str]:
    return list(document["results"][0]["seconds"])


def _settings(document: dict) -> str:
    machine = document["machine"]
    device = ", ".join(machine["gpus"]) or f"{machine['processors']} x {machine['processor']}"
    size = document["image_size"]
    return (
        f"{size}x{size}, batch {document['batch_size']}, median of {document['rounds']}\n{device}"
    )
