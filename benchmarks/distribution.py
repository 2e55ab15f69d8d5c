"""What it costs to train on two devices instead of one, on the processors of this machine.

    python benchmarks/distribution.py --save

Train steps of ConvNeXt-Tiny at 96 pixels with `AdamW`, of 16 and of 64 images, in four ways:

- one: one process with two cores.
- processes: two processes with one core each, which exchange their gradients over loopback.
- alone: the same two processes, each by itself, without an exchange.
- devices: one process with two cores, each a device (TensorFlow and JAX).

Efficiency is the speed of a way as a part of the speed of `one`. The share of the exchange in the
time of a step is what `processes` takes longer than `alone`. Peak memory is the sum over the
processes. The ways take turns, in as many rounds as asked for; figures are medians. The last line
of output is one JSON document; `--save` also writes it to `benchmarks/results/distribution.json`.
"""

import json
import statistics
from pathlib import Path

from common import make_parser, new_document, progress, publish
from local_processes import start_processes
from rich.table import Table

from keras_convnext.benchmark.machine import describe_machine
from keras_convnext.runtime import BACKENDS

WORKER = Path(__file__).with_name("distribution_worker.py")
WAYS = ("one", "processes", "alone", "devices")


def main() -> None:
    parser = make_parser(__doc__, "distribution")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    parser.add_argument("--images", nargs="+", type=int, default=[16, 64], help="in a step")
    arguments = parser.parse_args()
    document = new_document(
        "distribution",
        machine=describe_machine(),
        rounds=arguments.rounds,
        backends={
            backend: {
                str(images): compare(backend, images, arguments.rounds)
                for images in arguments.images
            }
            for backend in progress(arguments.backends, "Backends")
        },
    )
    publish(document, table(document), to_file=arguments.save)


def compare(backend: str, images: int, rounds: int) -> dict:
    """Returns images a second and peak memory of every way, and what follows from them."""
    ways = [way for way in WAYS if way != "devices" or backend != "torch"]
    found: dict[str, list[dict]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            found[way].append(measure(backend, way, images))
    speed = {way: statistics.median(one["images_per_second"] for one in found[way]) for way in ways}
    return {
        "images_per_second": speed,
        "efficiency": {way: speed[way] / speed["one"] for way in ways if way != "alone"},
        "share_of_exchange": 1 - speed["processes"] / speed["alone"],
        "peak_memory_mib": {way: max(one["peak_memory_mib"] for one in found[way]) for way in ways},
        "measurements": found,
    }


def measure(backend: str, way: str, images: int) -> dict:
    """Returns the speed over all processes of a way, and their peak memory together."""
    if way == "processes":
        workers = start_processes(backend, 2, WORKER, way, images)
    else:  # each process by itself, "alone" on a core of its own
        cores = ((0,), (1,)) if way == "alone" else ((),)
        workers = [
            worker
            for core in cores
            for worker in start_processes(backend, 1, WORKER, way, images, *core)
        ]
    answers = []
    for worker in workers:
        output, _ = worker.communicate()
        if worker.returncode:
            raise SystemExit(f"{backend}, {way} failed:\n{output}")
        answers.append(json.loads(output.splitlines()[-1]))
    speeds = [answer["images_per_second"] for answer in answers]
    return {
        # The processes of a group count the images of their common step, each.
        "images_per_second": sum(speeds) if way == "alone" else min(speeds),
        "peak_memory_mib": sum(answer["peak_memory_mib"] for answer in answers),
    }


def table(document: dict) -> Table:
    speeds = (f"{way}, images/s" for way in WAYS)
    result = Table("backend", "images", *speeds, "efficiency", "exchange")
    for backend, by_images in document["backends"].items():
        for images, found in by_images.items():
            speed = found["images_per_second"]
            efficiency = ", ".join(
                f"{way} {value:.2f}" for way, value in found["efficiency"].items() if way != "one"
            )
            cells = (f"{speed[way]:.1f}" if way in speed else "-" for way in WAYS)
            exchange = f"{found['share_of_exchange']:.0%}"
            result.add_row(backend, images, *cells, efficiency, exchange)
    return result


if __name__ == "__main__":
    main()
