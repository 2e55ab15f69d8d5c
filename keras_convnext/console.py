"""Consoles for progress and notices, on the error stream.

Results go to the output stream, so that they can be piped while notices stay visible.
"""

import io
import logging
import sys

from rich.console import Console

_consoles: list[Console] = []


def make_console(stderr: bool = False, width: int | None = None) -> Console:
    """Returns a console that prints text literally.

    Paths and class names may contain text that rich reads as markup (`[x]`) or as an emoji
    (`:dog:`), or numbers that it colours. Print sentences with `soft_wrap=True`, since a path that
    rich wraps cannot be copied.

    Args:
        stderr: Whether to print to the error stream. Defaults to `False`, the output stream.
        width: Width in characters. Defaults to the terminal's.
    """
    made = Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)
    _consoles.append(made)
    return made


def silence() -> None:
    """Makes all consoles so far print nothing: another process prints the same."""
    for made in _consoles:
        made.quiet = True


console = make_console(stderr=True)


class NoticeHandler(logging.Handler):
    """Prints log records as notices, one line each."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            style = "yellow" if record.levelno >= logging.WARNING else ""
            console.print(
                f"{record.levelname:8} {self.format(record)}", style=style, soft_wrap=True
            )
        except Exception:
            self.handleError(record)


def show_any_text() -> None:
    """Makes both streams escape characters that the terminal's encoding does not have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
