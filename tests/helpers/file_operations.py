"""What happens at a file operation of this process, as a kill or a full disk would make it happen.

Python tells its audit hooks of every file it opens, renames, links or removes. A hook stays for the
life of the process, so there is one, which does nothing unless it is told to.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

NAMED = {"os.rename": 1, "os.link": 1, "os.remove": 0, "os.mkdir": 0, "os.rmdir": 0}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_listener: Callable[[str, str], None] | None = None


def _hook(event, arguments):
    if _listener is None:
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, str | bytes | os.PathLike) and flags and flags & WRITING:
            _listener(event, os.fsdecode(path))
    elif event in NAMED:
        _listener(event, os.fsdecode(arguments[NAMED[event]]))


sys.addaudithook(_hook)


@contextlib.contextmanager
def listening(listener: Callable[[str, str], None]) -> Iterator[None]:
    """Calls the listener, within, with the event and the path of every operation that changes."""
    global _listener
    _listener = listener
    try:
        yield
    finally:
        _listener = None


class Killed(BaseException):
    """What a process feels when it is killed, were it to feel anything."""


@contextlib.contextmanager
def killed_at(number: int | None, root: Path) -> Iterator[list[tuple[str, str]]]:
    """Ends the block at the operation of a number, and lets nothing below `root` change after it.

    Gives the list of the operations. Without a number they are only listed.
    """
    operations: list[tuple[str, str]] = []

    def listener(event, path):
        # Where a directory is given by a descriptor, as when a tree is removed, the path is bare.
        if str(root) not in path and os.path.isabs(path):
            return
        operations.append((event, path))
        if number is not None and len(operations) > number:
            raise Killed

    with listening(listener), contextlib.suppress(Killed):
        yield operations
