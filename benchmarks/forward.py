"""ConvNeXt-Tiny here against `keras.applications.ConvNeXtTiny`, on one backend.

    KERAS_BACKEND=torch python benchmarks/forward.py --save

Both networks are made by their public constructor with random weights, compiled alike and called
through `predict_on_batch` and `train_on_batch`, in turn, so that a slow spell of the machine hits
both. The table gives the median of the rounds; what counts is the ratio. The last line of output is
one JSON document; `--save` also writes it to `benchmarks/results/`.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

import keras_convnext
from keras_convnext import runtime

RESULTS = Path(__file__).parent / "results"
PEERS = {
    "keras_convnext": keras_convnext.ConvNeXtTiny,
    "keras.applications": keras.applications.ConvNeXtTiny,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--save", action="store_true", help=f"write to {RESULTS}")
    arguments = parser.parse_args()

    seconds = measure(arguments.batch_size, arguments.image_size, arguments.rounds)
    medians = {
        peer: {task: statistics.median(times) for task, times in of_task.items()}
        for peer, of_task in seconds.items()
    }
    document = {
        "benchmark": "forward",
        "date": date.today().isoformat(),
        "batch_size": arguments.batch_size,
        "image_size": arguments.image_size,
        "rounds": arguments.rounds,
        "images_per_second": {
            peer: {task: arguments.batch_size / median for task, median in of_task.items()}
            for peer, of_task in medians.items()
        },
        "ratio": {
            task: medians["keras.applications"][task] / median
            for task, median in medians["keras_convnext"].items()
        },
        "seconds": seconds,
        **runtime.describe(),
    }
    show(document)
    if arguments.save:
        RESULTS.mkdir(exist_ok=True)
        file = RESULTS / f"forward_{document['backend']}.json"
        file.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document))


def measure(batch_size: int, image_size: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Returns the seconds of every round of both networks, forward and train step."""
    generator = np.random.default_rng(0)
    images = generator.uniform(0, 255, (batch_size, image_size, image_size, 3)).astype("float32")
    labels = generator.integers(0, 1000, batch_size)
    tasks = {peer: task_calls(build, images, labels) for peer, build in PEERS.items()}
    seconds: dict[str, dict[str, list[float]]] = {
        peer: {task: [] for task in calls} for peer, calls in tasks.items()
    }
    for calls in tasks.values():  # tracing and compiling are not counted
        for call in calls.values():
            call()
            call()
    for _ in track(range(rounds), description="Rounds", console=Console(stderr=True)):
        for peer, calls in tasks.items():
            for task, call in calls.items():
                started = time.perf_counter()
                call()
                seconds[peer][task].append(time.perf_counter() - started)
    return seconds


def task_calls(build: Callable[..., keras.Model], images, labels) -> dict[str, Callable]:
    """Returns one call of each task on a newly built network."""
    shape = images.shape[1:]
    model = build(weights=None, input_shape=shape, classifier_activation=None)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-4), loss)
    return {
        "forward": lambda: model.predict_on_batch(images),
        "train step": lambda: model.train_on_batch(images, labels),
    }


def show(document: dict) -> None:
    table = Table("", "keras_convnext", "keras.applications", "ratio")
    for task, ratio in document["ratio"].items():
        rates = [document["images_per_second"][peer][task] for peer in PEERS]
        table.add_row(task, *(f"{rate:.2f} images/s" for rate in rates), f"{ratio:.2f}")
    Console().print(f"ConvNeXt-Tiny on {document['backend']}", table)


if __name__ == "__main__":
    main()
