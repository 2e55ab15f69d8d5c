"""A run's metrics in the form that TensorBoard shows."""

import io
import os
import time
from pathlib import Path

from keras_convnext import files
from keras_convnext.errors import MissingPackage


class EventFile:
    """A file of TensorBoard's events, made from the rows of metrics.

    Every column of numbers becomes a curve over the epochs; TensorBoard has none for text, lists of
    numbers and `None`, which stand in the metrics' own file. Keras's own callback would begin a
    further file whenever a run is gone on with, with epochs twice, and says nothing of a full disk.

    Args:
        directory: Where the file goes, as the only one; it is made if it is not there.

    Raises:
        MissingPackage: If tensorboard is not installed.
    """

    def __init__(self, directory: Path) -> None:
        _tensorboard()
        # TensorBoard knows its files by the second and third word, and reads them by their order.
        # A new name, since of a file that was replaced it would go on reading the old one.
        self.path = directory / f"events.out.tfevents.{time.time():.0f}.{os.getpid()}"
        self.began = time.time()

    def begin(self, rows: list[dict[str, float]]) -> None:
        """Writes the file with the epochs there are, in the place of all others.

        Raises:
            WriteError: If it cannot be written; what was there stays.
        """
        event_pb2, _, _ = _tensorboard()
        # Times without what passed while the run stood still, as in the rows.
        self.began = time.time() - (rows[-1]["seconds"] if rows else 0.0)
        first = event_pb2.Event(wall_time=self.began, file_version="brain.Event:2")
        with files.whole_file(self.path) as written:
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
