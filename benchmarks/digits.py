"""The digits recipe on every backend and seed: test accuracy and training time.

    python benchmarks/digits.py --save

Runs `keras-convnext train recipes/quickstart/digits.yaml` once for each backend and seed, each in
a new process. The accuracy is that of the last epoch's weights on the 360 digits held out, which
played no part in choosing the settings. The last line of output is one JSON document; `--save`
also writes it to `benchmarks/results/digits.json`.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import scipy.stats
from common import DIGITS_RECIPE, ROOT, make_parser, new_document, progress, publish
from rich.table import Table

from keras_convnext.runs.directory import RunDirectory


def main() -> None:
    parser = make_parser(__doc__, "digits")
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "jax", "torch"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; they share the cores")
    arguments = parser.parse_args()

    pairs = [(backend, seed) for backend in arguments.backends for seed in arguments.seeds]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        finished = pool.map(lambda pair: train(*pair), pairs)
        runs = list(progress(finished, "Runs", len(pairs)))
    document = new_document(
        "digits",
        runs_at_a_time=arguments.jobs,
        backends={
            backend: summarize([run for run in runs if run["backend"] == backend])
            for backend in arguments.backends
        },
        runs=runs,
    )
    publish(document, tables(document), to_file=arguments.save)


def train(backend: str, seed: int) -> dict:
    """Returns the evaluation, training time and environment of one run."""
    with tempfile.TemporaryDirectory() as directory:
        command = [
            *(sys.executable, "-m", "keras_convnext", "train", DIGITS_RECIPE),
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
    # Student's t over the seeds. All runs share the 360 images, so the interval covers other seeds,
    # and not other digits.
    reach = scipy.stats.t.ppf(0.975, len(runs) - 1) * scipy.stats.sem(accuracies)
    return {
        "mean_top_1": mean,
        "interval_of_the_mean": [mean - reach, min(mean + reach, 1.0)],
        "lowest_top_1": min(run["top_1"] for run in runs),
        "longest_training_seconds": max(run["training_seconds"] for run in runs),
    }


def tables(document: dict) -> Table:
    table = Table("backend", "mean top-1", "95 % interval", "lowest", "longest training")
    for backend, figures in document["backends"].items():
        table.add_row(
            backend,
            f"{figures['mean_top_1']:.2%}",
            " to ".join(f"{end:.2%}" for end in figures["interval_of_the_mean"]),
            f"{figures['lowest_top_1']:.2%}",
            f"{figures['longest_training_seconds']:.0f} s",
        )
    return table


if __name__ == "__main__":
    main()
