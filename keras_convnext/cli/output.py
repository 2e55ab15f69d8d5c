"""Printing of results, on the output stream."""

import json
import sys
from typing import Any

from rich.table import Table

from keras_convnext.console import make_console

# Wider than any table: rich would truncate names and paths, which people copy.
results = make_console(width=10_000)


def print_wrapped(table: Table) -> None:
    """Prints a table of sentences, which a terminal wraps; for another program a row is a line."""
    console = make_console() if sys.stdout.isatty() else results
    console.print(table)


def print_json(document: Any) -> None:
    """Prints a JSON document on one line."""
    print(json.dumps(document))  # noqa: T201 (rich would wrap it)
