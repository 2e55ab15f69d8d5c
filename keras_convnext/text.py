"""Words counts and lists for messages."""

from collections.abc import Iterable


def counted(count: int, noun: str) -> str:
    """Returns a count with its noun, such as `1 file` or `2 files`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def shortened(names: Iterable[str], most: int = 5) -> str:
    """Returns the names separated by commas; of many names only the first `most`."""
    names = list(map(printable, names))
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def printable(name: str) -> str:
    """Returns a file's name with its undecodable bytes escaped, so that it can be printed."""
    return name.encode("utf-8", "backslashreplace").decode()
