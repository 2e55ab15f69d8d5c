"""Where the package speaks to a person: progress and notices, on the error stream.

Results go to the output stream, so that they can be piped while the notices still show.
"""

from rich.console import Console

console = Console(stderr=True)
