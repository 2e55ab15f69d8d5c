"""The digits recipe on every backend and seed: test accuracy and training time.

    python benchmarks/digits.py --save

Runs `keras-convnext train recipes/quickstart/digits.yaml` once for each backend and seed, each run
in a process of its own. The accuracy is that of the last epoch's weights on the 360 digits held
out; no choice was made by looking at them. The last line of output is one JSON document; `--save`
also writes it to `benchmarks/results/digits.json`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import scipy.stats
from rich.console import Console
from rich.progress import track
from rich.table import Table

from keras_convnext.runs.directory import RunDirectory

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes" / "quickstart" / "digits.yaml"
RESULT = Path(__file__).parent / "results" / "digits.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "jax", "torch"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; they share the cores")
    parser.add_argument("--save", action="store_true", help=f"write to {RESULT}")
    arguments = parser.parse_args()

    pairs = [(backend, seed) for backend in arguments.backends for seed in arguments.seeds]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        finished = pool.map(lambda pair: train(*pair), pairs)
        console = Console(stderr=True)
        runs = list(track(finished, description="Runs", total=len(pairs), console=console))
    document = {
        "benchmark": "digits",
        "date": date.today().isoformat(),
        "runs_at_a_time": arguments.jobs,
        "backends": {
            backend: summarize([run for run in runs if run["backend"] == backend])
            for backend in arguments.backends
        },
        "runs": runs,
    }
    show(document)
    if arguments.save:
        RESULT.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document))


def train(backend: str, seed: int) -> dict:
    """Returns what one run reached, and how long its training took."""
    with tempfile.TemporaryDirectory() as directory:
        command = [
            *(sys.executable, "-m", "keras_convnext", "train", str(RECIPE)),
            *(f"runtime.seed={seed}", "export.saved_model=false", "--run-dir", directory),
        ]
        environment = {**os.environ, "KERAS_BACKEND": backend}
        subprocess.run(command, env=environment, check=True, capture_output=True, cwd=ROOT)
        run = RunDirectory.open(directory)
        return {
            "backend": backend,
            "seed": seed,
            **json.loads((run.report / "evaluation.json").read_text()),
            "training_seconds": run.metrics()[-1]["seconds"],
            "environment": json.loads(run.environment_file.read_text()),
        }


def summarize(runs: list[dict]) -> dict:
    """Returns the mean accuracy with its 95 % interval, and the longest training of a backend."""
    accuracies = [run["top_1"] for run in runs]
    mean = statistics.mean(accuracies)
    # Student's t over the seeds. The 360 images are the same for all, so it tells how far another
    # set of seeds may be away, and not how other digits would be read.
    reach = scipy.stats.t.ppf(0.975, len(runs) - 1) * scipy.stats.sem(accuracies)
    return {
        "mean_top_1": mean,
        "interval_of_the_mean": [mean - reach, min(mean + reach, 1.0)],
        "lowest_top_1": min(run["top_1"] for run in runs),
        "longest_training_seconds": max(run["training_seconds"] for run in runs),
    }


def show(document: dict) -> None:
    table = Table("backend", "mean top-1", "95 % interval", "lowest", "longest training")
    for backend, figures in document["backends"].items():
        table.add_row(
            backend,
            f"{figures['mean_top_1']:.2%}",
            " to ".join(f"{end:.2%}" for end in figures["interval_of_the_mean"]),
            f"{figures['lowest_top_1']:.2%}",
            f"{figures['longest_training_seconds']:.0f} s",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
