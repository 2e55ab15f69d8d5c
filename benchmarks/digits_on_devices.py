"""The digits recipe on two devices: the metrics of every epoch beside those on one device.

    python benchmarks/digits_on_devices.py --save

Runs `keras-convnext train recipes/quickstart/digits.yaml` twice on each backend: on one device, and
with `distribution=data_parallel distribution.devices=2`. The two devices are two CPU devices of
one process on TensorFlow and JAX, and two processes of torchrun on PyTorch. Only the order of sums
differs between the runs, by the last bits of a float32. The result has, for the first epoch, the
first ten and all, the largest difference of each metric, and the accuracy of both runs. The last
line of output is one JSON document; `--save` also writes it to
`benchmarks/results/digits_on_devices.json`.
"""

import json
import os
import subprocess
import sys
import tempfile

from common import DIGITS_RECIPE, ROOT, make_parser, new_document, progress, publish
from rich.table import Table

from keras_convnext.benchmark.machine import describe_machine
from keras_convnext.runs.directory import RunDirectory
from keras_convnext.runtime import BACKENDS

SPANS = {"first_epoch": 1, "first_ten_epochs": 10, "all_epochs": None}
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def main() -> None:
    parser = make_parser(__doc__, "digits_on_devices")
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    document = new_document(
        "digits_on_devices",
        machine=describe_machine(),
        backends={
            backend: compare(backend, arguments.epochs)
            for backend in progress(arguments.backends, "Backends")
        },
    )
    publish(document, table(document), to_file=arguments.save)


def compare(backend: str, epochs: int) -> dict:
    """Returns what the runs on one and on two devices measured, and the largest differences."""
    one, two = train(backend, 1, epochs), train(backend, 2, epochs)
    names = sorted(one["metrics"][0].keys() - {"seconds"})
    differences = [
        {name: abs(a[name] - b[name]) for name in names}
        for a, b in zip(one["metrics"], two["metrics"], strict=True)
    ]
    return {
        "largest_difference": {
            span: {name: max(row[name] for row in differences[:count]) for name in names}
            for span, count in SPANS.items()
        },
        "top_1": [one["top_1"], two["top_1"]],
        "runs": {"one": one, "two": two},
    }


def train(backend: str, devices: int, epochs: int) -> dict:
    """Returns the plan's devices, the metrics of every epoch and the accuracy of one run."""
    with tempfile.TemporaryDirectory() as directory:
        launcher = TORCHRUN if backend == "torch" and devices > 1 else ()
        distribution = ["distribution=none"]
        if devices > 1:
            distribution = ["distribution=data_parallel", f"distribution.devices={devices}"]
        command = [
            *(sys.executable, *launcher, "-m", "keras_convnext", "train", DIGITS_RECIPE),
            *(f"schedule.epochs={epochs}", "export.saved_model=false", *distribution),
            *("--run-dir", directory),
        ]
        environment = {**os.environ, "KERAS_BACKEND": backend}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        run = RunDirectory.open(directory)
        evaluation = json.loads((run.report / "evaluation.json").read_text())
        return {
            "devices": run.read(run.plan_file)["devices"],
            "metrics": run.metrics(),
            "top_1": evaluation["top_1"],
        }


def table(document: dict) -> Table:
    shown = Table("backend", "metric", *(span.replace("_", " ") for span in SPANS), "top-1")
    for backend, result in document["backends"].items():
        for name in result["largest_difference"]["all_epochs"]:
            shown.add_row(
                backend,
                name,
                *(f"{result['largest_difference'][span][name]:.1e}" for span in SPANS),
                " and ".join(f"{value:.2%}" for value in result["top_1"]),
            )
    return shown


if __name__ == "__main__":
    main()
