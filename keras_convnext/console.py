"""Where the package speaks to a person: progress and notices, on the error stream.

Results go to the output stream, so that they can be piped while the notices still show.
"""

import io
import sys

from rich.console import Console

console = Console(stderr=True)


def show_any_text() -> None:
    """Lets both streams take names that the terminal's encoding cannot show, as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
