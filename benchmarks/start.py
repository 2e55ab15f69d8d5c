"""How long it takes until something can be computed: imports, and building the largest network.

    python benchmarks/start.py --save

Every figure is the median of processes of its own. `import keras_convnext` is what it takes beyond
an empty Python; "for a model" is what the package takes beyond Keras until its constructors are
there; then the XLarge network is built with its random weights. The last line of output is one JSON
document; `--save` also writes it to `benchmarks/results/start.json`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from keras_convnext.benchmark.machine import describe_machine
from keras_convnext.runtime import BACKENDS

RESULT = Path(__file__).parent / "results" / "start.json"
# Prints the seconds of the last statement, after the others.
TIMED = """
import time
{before}
started = time.perf_counter()
{timed}
print(time.perf_counter() - started)
"""
CONSTRUCTORS = "import keras_convnext; keras_convnext.ConvNeXtXLarge"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--save", action="store_true", help=f"write to {RESULT}")
    arguments = parser.parse_args()

    rounds = track(range(arguments.rounds), "Imports", console=Console(stderr=True))
    pairs = [(whole_process("import keras_convnext"), whole_process("pass")) for _ in rounds]
    document = {
        "benchmark": "start",
        "date": date.today().isoformat(),
        "machine": describe_machine(),
        "import_seconds": statistics.median(ours - empty for ours, empty in pairs),
        "backends": {},
    }
    for backend in track(BACKENDS, "Backends", console=Console(stderr=True)):
        document["backends"][backend] = {
            "for_a_model_seconds": median(backend, arguments.rounds, "import keras", CONSTRUCTORS),
            "building_xlarge_seconds": median(
                backend, 3, f"import keras; {CONSTRUCTORS}", "keras_convnext.ConvNeXtXLarge()"
            ),
        }
    show(document)
    if arguments.save:
        RESULT.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document))


def whole_process(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def median(backend: str, rounds: int, before: str, timed: str) -> float:
    """Returns the median of the seconds that a statement takes after others."""
    code = TIMED.format(before=before, timed=timed)
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", code]
    seconds = []
    for _ in range(rounds):
        process = subprocess.run(command, env=environment, check=True, capture_output=True)
        seconds.append(float(process.stdout))
    return statistics.median(seconds)


def show(document: dict) -> None:
    console = Console()
    console.print(f"import keras_convnext: {document['import_seconds']:.3f} s")
    table = Table("backend", "for a model, beyond Keras", "building XLarge")
    for backend, figures in document["backends"].items():
        table.add_row(backend, *(f"{seconds:.2f} s" for seconds in figures.values()))
    console.print(table)


if __name__ == "__main__":
    main()
