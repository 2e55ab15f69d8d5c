"""The time until something can be computed: imports, and building the largest network.

    python benchmarks/start.py --save

Every number is the median over new processes. `import keras_convnext` is the time beyond that of
an empty Python; "for a model" is the time that loading the constructors adds to Keras's own
import; the last column builds XLarge with random weights. The last line of output is one JSON
document; `--save` also writes it to `benchmarks/results/start.json`.
"""

import os
import statistics
import subprocess
import sys
import time

from common import make_parser, new_document, progress, publish
from rich.console import Group
from rich.table import Table

from keras_convnext.benchmark.machine import describe_machine
from keras_convnext.runtime import BACKENDS

# Prints the seconds that the last statement takes after the others.
TIMED = """
import time
{before}
started = time.perf_counter()
{timed}
print(time.perf_counter() - started)
"""
CONSTRUCTORS = "import keras_convnext; keras_convnext.ConvNeXtXLarge"


def main() -> None:
    parser = make_parser(__doc__, "start")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()

    rounds = progress(range(arguments.rounds), "Imports")
    pairs = [(whole_process("import keras_convnext"), whole_process("pass")) for _ in rounds]
    document = new_document(
        "start",
        machine=describe_machine(),
        import_seconds=statistics.median(ours - empty for ours, empty in pairs),
        backends={},
    )
    for backend in progress(BACKENDS, "Backends"):
        document["backends"][backend] = {
            "for_a_model_seconds": median(backend, arguments.rounds, "import keras", CONSTRUCTORS),
            "building_xlarge_seconds": median(
                backend, 3, f"import keras; {CONSTRUCTORS}", "keras_convnext.ConvNeXtXLarge()"
            ),
        }
    publish(document, tables(document), to_file=arguments.save)


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


def tables(document: dict) -> Group:
    table = Table("backend", "for a model, beyond Keras", "building XLarge")
    for backend, figures in document["backends"].items():
        table.add_row(backend, *(f"{seconds:.2f} s" for seconds in figures.values()))
    return Group(f"import keras_convnext: {document['import_seconds']:.3f} s", table)


if __name__ == "__main__":
    main()
