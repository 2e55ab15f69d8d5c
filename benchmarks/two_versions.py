"""The speed of two checkouts of this package beside each other: is a change slower or faster?

    git worktree add ../before v0.1.0
    python benchmarks/two_versions.py ../before --save

ConvNeXt-Tiny on 224x224 images in batches of 8, in float32: the forward pass and a train step with
`AdamW`. Each version has a process of its own, and the two take turns, so that a busy machine slows
both. The ratio is the median over the rounds of the new time over the old one: below 1 the new
version is faster. The last line of output is one JSON document; `--save` also writes it to
`benchmarks/results/two_versions.json`.
"""

import os
import statistics
import subprocess
import sys
from pathlib import Path

from common import ROOT, make_parser, new_document, progress, publish
from rich.table import Table

from keras_convnext.benchmark.machine import describe_machine
from keras_convnext.runtime import BACKENDS

ROUNDS = {"forward": 9, "train": 7}
# Answers each line, "forward" or "train", with the seconds of one call, the mean of two.
WORKER = """
import sys, time
import keras, numpy as np
import keras_convnext

keras.utils.set_random_seed(0)
model = keras_convnext.ConvNeXtTiny(input_shape=(224, 224, 3), classes=10, drop_path_rate=0.1)
images = np.random.default_rng(0).uniform(0, 255, (8, 224, 224, 3)).astype("float32")
labels = np.eye(10, dtype="float32")[:8]
compiles = "auto" if keras.backend.backend() != "torch" else False
loss = keras.losses.CategoricalCrossentropy(from_logits=True)
model.compile(keras_convnext.optimizers.AdamW(1e-4), loss, jit_compile=compiles)
calls = {
    "forward": lambda: model.predict_on_batch(images),
    "train": lambda: model.train_on_batch(images, labels),
}
for call in (*calls.values(), *calls.values()):
    call()
print("ready", keras_convnext.__file__, flush=True)
for line in sys.stdin:
    started = time.perf_counter()
    calls[line.strip()]()
    calls[line.strip()]()
    print((time.perf_counter() - started) / 2, flush=True)
"""


def main() -> None:
    parser = make_parser(__doc__, "two_versions")
    parser.add_argument("before", type=Path, help="a checkout of the old version")
    parser.add_argument("--after", type=Path, default=ROOT, help="one of the new, by default this")
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    arguments = parser.parse_args()

    checkouts = {"before": arguments.before.resolve(), "after": arguments.after.resolve()}
    document = new_document(
        "two_versions",
        machine=describe_machine(),
        commits={version: commit(path) for version, path in checkouts.items()},
        backends={
            backend: compare(backend, checkouts)
            for backend in progress(arguments.backends, "Backends")
        },
    )
    publish(document, table(document), to_file=arguments.save)


def commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def compare(backend: str, checkouts: dict[str, Path]) -> dict:
    """Returns the times of both versions in each round, and the median ratio, by task."""
    workers = {version: start(backend, path) for version, path in checkouts.items()}
    results = {task: compare_task(task, workers) for task in ROUNDS}
    for worker in workers.values():
        worker.communicate()
    return results


def start(backend: str, checkout: Path) -> subprocess.Popen:
    """Starts a version in a process of its own, and waits until it has compiled."""
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=checkout,  # Python looks for packages there first
        env={**os.environ, "KERAS_BACKEND": backend},
    )
    for line in worker.stdout:
        if line.startswith("ready"):
            if str(checkout) not in line:
                raise SystemExit(f"Expected the version in {checkout}. Found: {line.strip()}")
            return worker
    raise SystemExit(f"The version in {checkout} failed on {backend}.")


def compare_task(task: str, workers: dict[str, subprocess.Popen]) -> dict:
    seconds: dict[str, list[float]] = {version: [] for version in workers}
    for number in range(ROUNDS[task]):
        # The version that goes first changes, so that neither gains by its place.
        for version in sorted(workers, reverse=number % 2 == 0):
            seconds[version].append(timed(workers[version], task))
    pairs = zip(seconds["after"], seconds["before"], strict=True)
    return {"seconds": seconds, "ratio": statistics.median(new / old for new, old in pairs)}


def timed(worker: subprocess.Popen, task: str) -> float:
    worker.stdin.write(f"{task}\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


def table(document: dict) -> Table:
    commits = document["commits"]
    result = Table(
        "backend", "task", f"{commits['before']}, ms", f"{commits['after']}, ms", "ratio"
    )
    for backend, tasks in document["backends"].items():
        for task, found in tasks.items():
            old, new = (statistics.median(found["seconds"][v]) for v in ("before", "after"))
            result.add_row(
                backend, task, f"{1e3 * old:.0f}", f"{1e3 * new:.0f}", f"{found['ratio']:.3f}"
            )
    return result


if __name__ == "__main__":
    main()
