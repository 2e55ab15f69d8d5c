"""Writes a run's metrics as a TensorBoard event file."""

import io
import os
import time
from pathlib import Path

from keras_convnext import files
from keras_convnext.errors import MissingPackage


class EventFile:
    """A TensorBoard event file, written from the rows of metrics.

    Every numeric column becomes a curve over the epochs. Text, lists and `None` are only in the
    metrics file. Keras's own callback would start another file whenever a run resumes, with
    duplicate epochs, and does not report a full disk.

    Args:
        directory: The directory, created if necessary. The file replaces all others there.

    Raises:
        MissingPackage: If tensorboard is not installed.
    """

    def __init__(self, directory: Path) -> None:
        _tensorboard()
        # TensorBoard recognises the name by "tfevents", and reads files in the order of their
        # names. The name is new, since TensorBoard would keep reading a file that was replaced.
        self.path = directory / f"events.out.tfevents.{time.time():.0f}.{os.getpid()}"
        self.began = time.time()

    def begin(self, rows: list[dict[str, float]]) -> None:
        """Writes the file with these epochs and removes all others.

        Raises:
            WriteError: If it cannot be written; the earlier file stays.
        """
        event_pb2, _, _ = _tensorboard()
        # Wall times without the time in which the run was stopped, as in the rows.
        self.began = time.time() - (rows[-1]["seconds"] if rows else 0.0)
        first = event_pb2.Event(wall_time=self.began, file_version="brain.Event:2")
        with files.atomic_write(self.path) as written:
            written.write_bytes(_record(first) + b"".join(map(self._event, rows)))
        for path in self.path.parent.glob("events.out.tfevents.*"):
            if path != self.path:
                path.unlink()

    def append(self, row: dict[str, float]) -> None:
        """Adds an epoch.

        Raises:
            WriteError: If it cannot be written; the file stays as it was.
        """
        files.append(self.path, self._event(row))

    def _event(self, row):
        event_pb2, summary_pb2, _ = _tensorboard()
        values = [
            summary_pb2.Summary.Value(tag=name, simple_value=value)
            for name, value in row.items()
            if name not in ("epoch", "seconds") and isinstance(value, int | float)
        ]
        summary = summary_pb2.Summary(value=values)
        when = self.began + row["seconds"]
        return _record(event_pb2.Event(wall_time=when, step=int(row["epoch"]), summary=summary))


def _record(event) -> bytes:
    _, _, record_writer = _tensorboard()
    buffer = io.BytesIO()
    record_writer.RecordWriter(buffer).write(event.SerializeToString())
    return buffer.getvalue()


def _tensorboard():
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer import record_writer
    except ImportError:
        raise MissingPackage("tensorboard, which writes the curves it shows,", "train") from None
    return event_pb2, summary_pb2, record_writer
