"""Which settings of the digits recipe help: cross-validation on its training images.

    python benchmarks/digits_settings.py --jobs 2 --save

The 360 digits that the recipe holds out are never read. The 1,437 training images are divided into
four folds; networks are trained on three of them and evaluated on the fourth. Six settings take
two values each. Eight combinations form a fractional factorial design: each value of a setting
meets each value of any other equally often, so every run contributes to the effect of every
setting. The last line of output is one JSON document; `--save` also writes it to
`benchmarks/results/digits_settings.json`.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import DIGITS_RECIPE, ROOT, make_parser, new_document, progress, publish
from PIL import Image
from rich.table import Table
from sklearn.model_selection import StratifiedKFold

from keras_convnext.data.sources.digits import digits

FOLDS = 4
# The two values of each setting. Those of FOLLOWING are given by two settings of FREE.
FREE = {
    "optimizer.layer_decay": ("null", "0.95"),
    "augment.random_erasing": ("0.0", "0.1"),
    "augment.rand_augment.magnitude": ("0.1", "0.2"),
}
FOLLOWING = {
    "augment.switch_probability": (("0.0", "0.3"), (0, 1)),
    "model.drop_path_rate": (("0.0", "0.1"), (0, 2)),
    "schedule.learning_rate": (("0.002", "0.004"), (1, 2)),
}


def main() -> None:
    parser = make_parser(__doc__, "digits_settings")
    parser.add_argument("--backend", default="jax")
    parser.add_argument("--folds", type=int, default=1, help=f"how many of the {FOLDS} are run")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; they share the cores")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(arguments.jobs) as pool:
        folds = write_folds(Path(directory))[: arguments.folds]
        pairs = list(itertools.product(combinations(), folds))
        finished = pool.map(lambda pair: train(arguments.backend, *pair), pairs)
        runs = list(progress(finished, "Runs", len(pairs)))
    document = new_document(
        "digits_settings", backend=arguments.backend, effects=effects(runs), runs=runs
    )
    publish(document, tables(document), to_file=arguments.save)


def combinations() -> list[dict[str, str]]:
    """Returns the eight combinations of settings."""
    rows = []
    for places in itertools.product((0, 1), repeat=len(FREE)):
        row = {key: FREE[key][place] for key, place in zip(FREE, places, strict=True)}
        for key, (values, (one, other)) in FOLLOWING.items():
            row[key] = values[places[one] ^ places[other]]
        rows.append(row)
    return rows


def write_folds(directory: Path) -> list[Path]:
    """Writes the recipe's training images as folders, one for each fold; returns the folders."""
    training, _ = digits()
    split = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    for fold, parts in enumerate(split.split(training.images, training.labels)):
        for name, numbers in zip(("train", "val"), parts, strict=True):
            for number in numbers:
                label = training.labels[number]
                place = directory / f"fold_{fold}" / name / str(label) / f"{number:04d}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(training.images[number]).save(place)
    return sorted(directory.iterdir())


def train(backend: str, settings: dict[str, str], fold: Path) -> dict:
    """Returns the mistakes of one training on the held-out fold, with and without the EMA."""
    with tempfile.TemporaryDirectory() as directory:
        command = [
            *(sys.executable, "-m", "keras_convnext", "train", DIGITS_RECIPE),
            *("data.source=folder", f"data.path={fold}", "export.saved_model=false"),
            *(f"{key}={value}" for key, value in settings.items()),
            *("--run-dir", f"{directory}/run"),
        ]
        environment = {**os.environ, "KERAS_BACKEND": backend, "KERAS_HOME": f"{directory}/keras"}
        subprocess.run(command, env=environment, check=True, capture_output=True, cwd=ROOT)
        lines = Path(directory, "run", "metrics.jsonl").read_text().splitlines()
        last = json.loads(lines[-1])
        images = len(list((fold / "val").glob("*/*.png")))
        return {
            "fold": fold.name,
            "settings": settings,
            "images": images,
            "mistakes": round(images * (1 - last["val_accuracy"])),
            "ema_mistakes": round(images * (1 - last["val_ema_accuracy"])),
            "loss": last["val_loss"],
        }


def effects(runs: list[dict]) -> dict:
    """Returns the mean mistakes with each value of each setting."""
    return {
        key: {
            value: {
                name: statistics.mean(run[name] for run in runs if run["settings"][key] == value)
                for name in ("mistakes", "ema_mistakes")
            }
            for value in sorted({run["settings"][key] for run in runs})
        }
        for key in (*FREE, *FOLLOWING)
    }


def tables(document: dict) -> Table:
    table = Table("setting", "value", "mean mistakes", "with the EMA")
    for key, values in document["effects"].items():
        for value, means in values.items():
            table.add_row(key, value, f"{means['mistakes']:.2f}", f"{means['ema_mistakes']:.2f}")
    return table


if __name__ == "__main__":
    main()
