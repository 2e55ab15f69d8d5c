"""The parts that all benchmark scripts share: arguments, the result file, the output."""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.progress import track

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
DIGITS_RECIPE = "recipes/quickstart/digits.yaml"


def make_parser(description: str | None, name: str) -> argparse.ArgumentParser:
    """Returns a parser with the option `--save`.

    Args:
        description: The docstring of the script.
        name: Name of the benchmark, and of its file below `results/`.
    """
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--save", action="store_true", help=f"write to {result_file(name)}")
    return parser


def result_file(name: str) -> Path:
    return RESULTS / f"{name}.json"


def new_document(name: str, **fields: object) -> dict:
    """Returns a result with the benchmark's name, the date and further fields."""
    return {"benchmark": name, "date": date.today().isoformat(), **fields}


def save(document: dict) -> None:
    result_file(document["benchmark"]).write_text(json.dumps(document, indent=2) + "\n")


def publish(document: dict, *shown: object, to_file: bool) -> None:
    """Shows tables on standard error, saves on request, and prints the JSON document."""
    Console(stderr=True).print(*shown)
    if to_file:
        save(document)
    print(json.dumps(document))


def progress(items: Iterable, description: str, total: int | None = None):
    """Yields the items while a progress bar on standard error advances."""
    return track(items, description, total, console=Console(stderr=True))


def answer_of(arguments: Sequence[object], environment: dict[str, str] | None = None):
    """Runs Python in a new process and returns the JSON document on the last line it prints."""
    process = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(process.stdout.splitlines()[-1])
