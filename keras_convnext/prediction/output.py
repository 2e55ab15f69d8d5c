"""Writes rows to a file that gets its name once it is complete, and resumes an interrupted one.

Until then the rows are JSON lines in `NAME.partial`, below a line with the settings they were made
with. After an interruption the rows of whole batches are kept.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from keras_convnext.errors import MissingPackage, RunError, UserError
from keras_convnext.files import atomic_write, check_absent, write_errors
from keras_convnext.prediction.rows import Row
from keras_convnext.tasks.classification.predictor import Prediction
from keras_convnext.tasks.prediction_batches import BATCH_SIZE
from keras_convnext.text import printable

SUFFIXES = (".csv", ".jsonl", ".parquet")
ROWS_AT_ONCE = 4096  # of a Parquet file's row group


def check_output(path: Path) -> None:
    """Raises a `UserError` if no rows can be written to a path."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"`output` must end in {', '.join(SUFFIXES)}. Received: {path}.")
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise MissingPackage("pyarrow, which writes Parquet,", "parquet")
    check_absent(path)


def write_rows(
    path: Path,
    settings: dict[str, Any],
    files: Iterable[Path],
    rows_of: Callable[[Iterable[Path]], Iterator[Row]],
) -> Iterator[Row]:
    """Writes the rows of files, and yields each once it is written.

    Args:
        path: The file, `.csv`, `.jsonl` or `.parquet`.
        settings: What the rows depend on besides the files; JSON.
        files: The image files, in the same order as in an interrupted run.
        rows_of: Returns the rows of files.

    Raises:
        RunError: If an interrupted run had other settings or files.
        WriteError: If the rows cannot be written; those so far are kept.
    """
    partial = path.with_name(f"{path.name}.partial")
    remaining = iter(files)
    with write_errors(partial):
        path.parent.mkdir(parents=True, exist_ok=True)
        _begin(partial, settings)
        for earlier in _complete_rows(partial):
            file = next(remaining, None)
            if file is None or printable(str(file)) != earlier["image"]:
                raise RunError(
                    f"{partial} was begun with other images: it has {earlier['image']} where there "
                    f"is {'nothing' if file is None else file} now. Remove it to start over."
                )
            yield _row(earlier)
        with partial.open("a", encoding="utf-8") as log:
            for row in rows_of(remaining):
                log.write(f"{json.dumps(row.as_json(), ensure_ascii=False)}\n")
                log.flush()
                yield row
    with atomic_write(path) as written:
        _WRITERS[path.suffix](written, lambda: _complete_rows(partial), settings)
    partial.unlink()


def _begin(partial: Path, settings: dict[str, Any]) -> None:
    """Creates the log of rows, or cuts it off after its last complete batch.

    The other images of that batch are predicted again, since rounding depends on a batch's size.
    """
    first = f"{json.dumps(settings)}\n"
    if not partial.exists() or not partial.stat().st_size:
        partial.write_text(first, encoding="utf-8")
        return
    with partial.open("rb+") as log:
        if log.readline().decode(errors="replace") != first:
            raise RunError(
                f"{partial} was begun with other settings: pass those again to resume it, or "
                f"remove it to start over."
            )
        end = position = log.tell()
        for number, line in enumerate(log, 1):
            position += len(line)
            if number % BATCH_SIZE == 0 and line.endswith(b"\n"):
                end = position
        log.truncate(end)


def _complete_rows(partial: Path) -> Iterator[dict]:
    with partial.open(encoding="utf-8") as log:
        for line in islice(log, 1, None):
            yield json.loads(line)


def _row(row: dict) -> Row:
    predictions = tuple(Prediction(**one) for one in row.get("predictions", ()))
    features = np.array(row["features"], "float32") if "features" in row else None
    return Row(row["image"], predictions, features, row.get("error"))


def _write_json_lines(path: Path, rows: Callable[[], Iterator[dict]], settings: dict) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows())


def _write_csv(path: Path, rows: Callable[[], Iterator[dict]], settings: dict) -> None:
    """Writes a column for each label, probability or feature."""
    widest = max((len(_values(row)) for row in rows()), default=0)
    if settings["features"]:
        names = [f"feature_{place}" for place in range(widest)]
    else:
        pairs = range(1, widest // 2 + 1)
        names = [f"{kind}_{place}" for place in pairs for kind in ("label", "probability")]
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["image", "error", *names])
        for row in rows():
            values = _values(row)
            padding = [""] * (widest - len(values))
            table.writerow([row["image"], row.get("error", ""), *values, *padding])


def _values(row: dict) -> list:
    if "features" in row:
        return row["features"]
    return [value for one in row.get("predictions", ()) for value in one.values()]


def _write_parquet(path: Path, rows: Callable[[], Iterator[dict]], settings: dict) -> None:
    """Writes the columns image, error, and features, or labels with probabilities."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [("image", pa.string()), ("error", pa.string())]
    if settings["features"]:
        fields.append(("features", pa.list_(pa.float32())))
    else:
        fields += [("labels", pa.list_(pa.string())), ("probabilities", pa.list_(pa.float32()))]
    schema, remaining = pa.schema(fields), rows()
    with pq.ParquetWriter(path, schema) as writer:
        while some := list(islice(remaining, ROWS_AT_ONCE)):
            table = [_parquet_row(row) for row in some]
            writer.write_table(pa.Table.from_pylist(table, schema))


def _parquet_row(row: dict) -> dict:
    result = {"image": row["image"], "error": row.get("error"), "features": row.get("features")}
    if "predictions" in row:
        result["labels"] = [one["label"] for one in row["predictions"]]
        result["probabilities"] = [one["probability"] for one in row["predictions"]]
    return result


_WRITERS = {".csv": _write_csv, ".jsonl": _write_json_lines, ".parquet": _write_parquet}
