"""Counts and lists as they stand in a sentence."""

from collections.abc import Iterable


def counted(count: int, noun: str) -> str:
    """Returns `1 file` or `2 files`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def shortened(names: Iterable[str], most: int = 5) -> str:
    """Returns the names with commas between them, of many the first."""
    names = list(map(printable, names))
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def printable(name: str) -> str:
    """Returns a file's name with escapes for bytes that are no text, which no stream would take."""
    return name.encode("utf-8", "backslashreplace").decode()
