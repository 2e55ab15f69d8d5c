"""Where the package speaks to a person: progress and notices, on the error stream.

Results go to the output stream, so that they can be piped while the notices still show.
"""

import io
import logging
import sys

from rich.console import Console


def make_console(stderr: bool = False, width: int | None = None) -> Console:
    """Returns a console that prints what it is given.

    Paths and the names of classes may hold what rich would take for markup (`[x]`), an emoji
    (`:dog:`) or a number to colour. Print sentences with `soft_wrap=True`: a path that rich folds
    cannot be copied.

    Args:
        stderr: Whether it prints to the error stream. Defaults to `False`, the output stream.
        width: Its width in characters. Defaults to that of the terminal.
    """
    return Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)


console = make_console(stderr=True)


class NoticeHandler(logging.Handler):
    """Prints what is logged as a notice, one line a record."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            style = "yellow" if record.levelno >= logging.WARNING else ""
            console.print(
                f"{record.levelname:8} {self.format(record)}", style=style, soft_wrap=True
            )
        except Exception:
            self.handleError(record)


def show_any_text() -> None:
    """Lets both streams take names that the terminal's encoding cannot show, as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
