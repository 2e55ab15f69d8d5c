"""The report of a finished run: pictures, and its figures as JSON."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_convnext.errors import MissingPackage
from keras_convnext.evaluation.classification import Evaluation
from keras_convnext.files import atomic_directory

MISTAKES_SHOWN = 24
# With more classes the numbers in the matrix and the names at its sides would be illegible.
CLASSES_NAMED = 25


def write_report(
    directory: Path,
    metrics: list[dict[str, float]],
    evaluation: Evaluation | None,
    image: Callable[[int], np.ndarray] | None,
) -> None:
    """Writes `curves.png`, `confusion_matrix.png`, `mistakes.png` and `evaluation.json`.

    Without an evaluation it writes the curves alone.

    Args:
        directory: A new or an empty directory, which gets its name once everything is written.
        metrics: The metrics of every epoch.
        evaluation: The evaluation on the validation images; `None` if there are none.
        image: Returns a validation image by its index, `uint8` of shape `(height, width, 3)`.

    Raises:
        MissingPackage: If matplotlib is not installed.
        WriteError: If they cannot be written, as on a full disk; nothing is left then.
    """
    figures = {"curves": learning_curves(metrics)}
    if evaluation is not None and image is not None:
        figures["confusion_matrix"] = confusion_matrix(evaluation)
        figures["mistakes"] = mistakes(evaluation, image)
    write_figures(directory, figures, None if evaluation is None else evaluation.summary())


def write_figures(
    directory: Path, figures: dict[str, Any], summary: dict[str, float] | None
) -> None:
    """Writes figures as PNG files, and `evaluation.json`, all of them or none.

    Args:
        directory: A new or an empty directory.
        figures: Matplotlib figures by the names of their files.
        summary: The figures of the evaluation, or `None` for no `evaluation.json`.

    Raises:
        WriteError: If they cannot be written; nothing is left then.
    """
    with atomic_directory(directory) as written:
        if summary is not None:
            (written / "evaluation.json").write_text(f"{json.dumps(summary, indent=2)}\n")
        for name, figure in figures.items():
            figure.savefig(written / f"{name}.png", dpi=120)


def learning_curves(metrics: list[dict[str, float]], names: tuple[str, ...] = ("loss", "accuracy")):
    """Returns a figure of metrics and the learning rate over the epochs.

    Args:
        metrics: The metrics of every epoch.
        names: The metrics to draw, by their names in training. Defaults to loss and accuracy.
    """
    figure = _figure(4 * (len(names) + 1), 3.6)
    *panels, rate = figure.subplots(1, len(names) + 1)
    epochs = [row["epoch"] for row in metrics]
    for axes, name in zip(panels, names, strict=True):
        axes.plot(epochs, [row[name] for row in metrics], label="training, augmented")
        for prefix, label in (("val_", "validation"), ("val_ema_", "validation, average")):
            if prefix + name in metrics[0]:
                axes.plot(epochs, [row[prefix + name] for row in metrics], label=label)
        axes.set(xlabel="epoch", title=name)
        axes.legend()
    rate.plot(epochs, [row["learning_rate"] for row in metrics], color="tab:green")
    rate.set(xlabel="epoch", title="learning rate at the epoch's end")
    for axes in (*panels, rate):
        axes.grid(alpha=0.3)
    return figure


def confusion_matrix(evaluation: Evaluation):
    """Returns a figure of the confusion matrix."""
    counts = evaluation.confusion
    classes = len(evaluation.class_names)
    side = float(np.clip(0.45 * classes + 2, 5, 12))
    figure = _figure(side, side)
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    title = f"top-1 {evaluation.top(1):.2%} of {len(evaluation.labels):,} images"
    axes.set(xlabel="taken for", ylabel="true class", title=title)
    if classes <= CLASSES_NAMED:
        names = evaluation.class_names
        axes.set_xticks(range(classes), names, rotation=45, ha="right", parse_math=False)
        axes.set_yticks(range(classes), names, parse_math=False)
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = {"ha": "center", "va": "center", "color": colour}
            axes.text(column, row, counts[row, column], **text)
    figure.colorbar(picture, shrink=0.7, label="share of the true class")
    return figure


def mistakes(evaluation: Evaluation, image: Callable[[int], np.ndarray]):
    """Returns a figure of the misclassified images, the most confident mistakes first."""
    shown = evaluation.mistakes[:MISTAKES_SHOWN]
    columns = min(max(len(shown), 1), 6)
    rows = -(-len(shown) // columns) or 1
    figure = _figure(2 * columns + 0.5, 2.4 * rows + 0.6)
    # One axes for all images: laying out one for each takes a second.
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_title(
        f"{len(evaluation.mistakes)} mistakes in {len(evaluation.labels):,} images"
        + (f", the {len(shown)} most confident" if len(shown) < len(evaluation.mistakes) else "")
    )
    names = evaluation.class_names
    for place, index in enumerate(shown):
        row, column = divmod(place, columns)
        pixels = image(index)
        axes.imshow(pixels, extent=_extent(pixels, column + 0.5, 1.2 * row + 0.7))
        taken_for = evaluation.predictions[index]
        confidence = evaluation.probabilities[index, taken_for]
        truth = names[evaluation.labels[index]]
        title = f"{truth}, taken for\n{names[taken_for]} ({confidence:.0%})"
        style = {"ha": "center", "va": "bottom", "fontsize": 9, "parse_math": False}
        axes.text(column + 0.5, 1.2 * row + 0.22, title, **style)
    # `imshow` fits the axes to the last image.
    axes.set(xlim=(0, columns), ylim=(1.2 * rows, 0), aspect="equal")
    return figure


def _extent(pixels: np.ndarray, x: float, y: float, side: float = 0.94) -> tuple[float, ...]:
    """Returns left, right, bottom and top of an image about a point; its longer side is `side`."""
    height, width = side * np.array(pixels.shape[:2]) / max(pixels.shape[:2])
    return x - width / 2, x + width / 2, y + height / 2, y - height / 2


def _figure(width: float, height: float):
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackage("matplotlib, which draws the report,", "train") from None
    return Figure(figsize=(width, height), layout="constrained")
