"""The pictures and figures of a finished run, for people to look at."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_convnext.errors import MissingPackage
from keras_convnext.evaluation.classification import Evaluation
from keras_convnext.files import whole_directory

MISTAKES_SHOWN = 24
# With more classes than this, numbers in the matrix and names at its sides cannot be read.
CLASSES_NAMED = 25


def write_report(
    directory: Path,
    metrics: list[dict[str, float]],
    evaluation: Evaluation | None,
    image: Callable[[int], np.ndarray] | None,
) -> None:
    """Writes `curves.png`, `confusion_matrix.png`, `mistakes.png` and `evaluation.json`.

    Without an evaluation there are the curves alone.

    Args:
        directory: Where they go, a new or an empty directory; it has its name once all is written.
        metrics: The metrics of every epoch.
        evaluation: What the classifier made of the validation images; `None` if there are none.
        image: Gives a validation image by its number, `uint8` of shape `(height, width, 3)`.

    Raises:
        MissingPackage: If matplotlib is not installed.
        WriteError: If they cannot be written, as on a full disk; nothing is left then.
    """
    figures = {"curves": learning_curves(metrics)}
    if evaluation is not None and image is not None:
        figures["confusion_matrix"] = confusion_matrix(evaluation)
        figures["mistakes"] = mistakes(evaluation, image)
    with whole_directory(directory) as written:
        if evaluation is not None:
            summary = json.dumps(evaluation.summary(), indent=2)
            (written / "evaluation.json").write_text(f"{summary}\n")
        for name, figure in figures.items():
            figure.savefig(written / f"{name}.png", dpi=120)


def learning_curves(metrics: list[dict[str, float]]):
    """Returns a figure of the loss, the accuracy and the learning rate over the epochs."""
    figure = _figure(12, 3.6)
    loss, accuracy, rate = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in metrics]
    for axes, name, label in ((loss, "loss", "loss"), (accuracy, "accuracy", "accuracy")):
        axes.plot(epochs, [row[name] for row in metrics], label="training, augmented")
        for prefix, of in (("val_", "validation"), ("val_ema_", "validation, average")):
            if prefix + name in metrics[0]:
                axes.plot(epochs, [row[prefix + name] for row in metrics], label=of)
        axes.set(xlabel="epoch", title=label)
        axes.legend()
    rate.plot(epochs, [row["learning_rate"] for row in metrics], color="tab:green")
    rate.set(xlabel="epoch", title="learning rate at the epoch's end")
    for axes in (loss, accuracy, rate):
        axes.grid(alpha=0.3)
    return figure


def confusion_matrix(evaluation: Evaluation):
    """Returns a figure of how many images of each class were taken for each class."""
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
    """Returns a figure of the images taken for another class, most confident mistakes first."""
    shown = evaluation.mistakes[:MISTAKES_SHOWN]
    columns = min(max(len(shown), 1), 6)
    rows = -(-len(shown) // columns) or 1
    figure = _figure(2 * columns + 0.5, 2.4 * rows + 0.6)
    figure.suptitle(
        f"{len(evaluation.mistakes)} mistakes in {len(evaluation.labels):,} images"
        + (f", the {len(shown)} most confident" if len(shown) < len(evaluation.mistakes) else "")
    )
    names = evaluation.class_names
    for axes in np.ravel(figure.subplots(rows, columns, squeeze=False)):
        axes.set_axis_off()
    for axes, index in zip(figure.axes, shown, strict=False):
        axes.imshow(image(index))
        taken_for = evaluation.predictions[index]
        confidence = evaluation.probabilities[index, taken_for]
        truth = names[evaluation.labels[index]]
        title = f"{truth}, taken for\n{names[taken_for]} ({confidence:.0%})"
        axes.set_title(title, fontsize=9, parse_math=False)
    return figure


def _figure(width: float, height: float):
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackage("matplotlib, which draws the report,", "train") from None
    return Figure(figsize=(width, height), layout="constrained")
