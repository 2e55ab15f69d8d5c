"""Names the images of large collections with Ray Data, on one machine or a Ray cluster.

pip install 'keras-convnext[torch,train,ray]'
python examples/cluster/score_with_ray.py convnext_tiny.fb_in1k PHOTOS --output scores --workers 2

An input is an image, a Parquet file, or a folder of either. In a Parquet file, the column
`--column` has the images: encoded, as paths relative to the file, or as {bytes, path} as Hugging
Face datasets store them.

The images are divided into parts: one for each Parquet file, and one for every `--part-size` image
files. `scores/manifest.parquet` lists them, and each part becomes `scores/part-NNNNNN.parquet` with
the columns `path`, `row` (in a Parquet file), `classes` and `probabilities` (the `--top` best
ones), and `error`: why an image cannot be read, else null. A part's file is complete or absent, so
the same command resumes after an interruption; it scores the images in the manifest. Bad images are
counted at the end.

Each worker is a process with its own copy of the model. On a cluster, `--address auto` joins it;
model, images and output must then have the same path on every machine.
"""

import argparse
import json
import logging
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from keras_convnext.errors import DataError, UserError
from keras_convnext.files import atomic_write, remove_partial

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("row", pa.int64()),
        ("classes", pa.list_(pa.string())),
        ("probabilities", pa.list_(pa.float32())),
        ("error", pa.string()),
    ]
)
# Settings that the parts of one output must share.
SETTINGS = ("model", "checkpoint", "inputs", "column", "top", "part_size")


def main() -> None:
    """Scores the parts that have no file yet, and counts the bad images of all parts."""
    arguments = parse_arguments()
    try:
        manifest = Manifest.begin_or_resume(arguments)
        todo = [part for part in range(manifest.parts) if not manifest.file(part).exists()]
        print(f"{manifest.parts - len(todo)} of {manifest.parts} parts were scored before")
        if todo:
            score(todo, arguments)
    except UserError as error:
        raise SystemExit(str(error)) from None
    print_summary(manifest)


def parse_arguments() -> argparse.Namespace:
    """Returns the arguments of the command line, paths as absolute ones."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="run directory, published checkpoint or .keras file")
    parser.add_argument("inputs", nargs="+", metavar="INPUT")
    parser.add_argument("--output", required=True, metavar="DIR", help="shared by all machines")
    parser.add_argument("--checkpoint", default="last", help="of a run: last, best or best_ema")
    parser.add_argument("--column", default="image", help="of Parquet files; default: image")
    parser.add_argument("--top", type=int, default=5, help="classes an image; default: 5")
    parser.add_argument("--workers", type=int, default=1, help="processes; default: 1")
    parser.add_argument("--batch-size", type=int, default=64, help="default: 64")
    parser.add_argument("--cpus-per-worker", type=int, default=1, help="also threads that decode")
    parser.add_argument("--gpus-per-worker", type=float, default=0, help="may be a fraction")
    parser.add_argument("--part-size", type=int, default=10_000, help="image files in a part")
    parser.add_argument("--address", help="of a Ray cluster; default: RAY_ADDRESS, or a local one")
    arguments = parser.parse_args()
    for name in ("top", "workers", "batch_size", "cpus_per_worker", "part_size"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if Path(arguments.model).exists():
        arguments.model = os.path.abspath(arguments.model)
    arguments.inputs = [os.path.abspath(path) for path in arguments.inputs]
    arguments.output = os.path.abspath(arguments.output)
    return arguments


class Manifest(NamedTuple):
    """The parts of an output: each a row group with the paths of its input files."""

    directory: Path
    parts: int

    def file(self, part: int) -> Path:
        """Returns where the scores of a part are."""
        return self.directory / f"part-{part:06d}.parquet"

    @classmethod
    def begin_or_resume(cls, arguments: argparse.Namespace) -> "Manifest":
        """Writes the manifest, or reads that of an interrupted call with the same settings."""
        directory = Path(arguments.output)
        path = directory / "manifest.parquet"
        settings = {name: getattr(arguments, name) for name in SETTINGS}
        if not path.exists():
            write_manifest(path, settings, parts_of(arguments))
        remove_partial(directory)
        written = pq.ParquetFile(path)
        earlier = json.loads(written.schema_arrow.metadata[b"settings"])
        for name, value in settings.items():
            if earlier[name] != value:
                raise UserError(
                    f"{directory} holds scores with another `{name}`: {earlier[name]!r}. Received: "
                    f"{value!r}. Choose another --output, or remove the directory."
                )
        return cls(directory, written.num_row_groups)


def write_manifest(path: Path, settings: dict[str, Any], parts: Iterable[list[str]]) -> None:
    """Writes the settings, and a row group for each part."""
    schema = pa.schema([("path", pa.string())], {"settings": json.dumps(settings)})
    with atomic_write(path) as written, pq.ParquetWriter(written, schema) as writer:
        for paths in parts:
            writer.write_table(pa.table({"path": paths}, schema))


def parts_of(arguments: argparse.Namespace) -> Iterator[list[str]]:
    """Yields the paths of each part."""
    images = []
    for path in files_in(arguments.inputs):
        if path.endswith(".parquet"):
            check_column(path, arguments.column)
            yield [path]
        else:
            images.append(path)
    yield from in_groups(images, arguments.part_size)


def files_in(inputs: Iterable[str]) -> Iterator[str]:
    """Yields the files among the inputs, and those in folders, but for names with a dot in front.

    Links to files are followed, and links to folders are not.
    """
    for path in inputs:
        found = path if os.path.isfile(path) else None
        if found:
            yield found
        for folder, below, names in os.walk(path):
            below[:] = sorted(name for name in below if not name.startswith("."))
            for name in sorted(names):
                if not name.startswith("."):
                    found = os.path.join(folder, name)
                    yield found
        if not found:
            raise DataError(f"There are no files in {path}, or it does not exist.")


def check_column(path: str, column: str) -> None:
    """Raises a `DataError` if a Parquet file cannot be read or has no such column of images."""
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as a Parquet file: {error}.") from None
    if column not in schema.names:
        raise DataError(
            f"{path} has no column {column!r}. Its columns are: {', '.join(schema.names)}. "
            f"Name the one with the images: --column."
        )


def in_groups(items: Iterable, size: int) -> Iterator[list]:
    """Yields the items in lists of `size`; the last may be shorter."""
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group


def score(parts: list[int], arguments: argparse.Namespace) -> None:
    """Scores parts on the workers, each a call of an actor of `Scorer`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report that it is used
    import ray

    is_local = not (arguments.address or "RAY_ADDRESS" in os.environ)
    ray.init(
        arguments.address,
        include_dashboard=False if is_local else None,
        runtime_env={"env_vars": environment_of_workers()},
        logging_level=logging.WARNING,
    )
    check_resources(ray.cluster_resources(), arguments)
    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.from_items(
        [{"part": part} for part in parts], override_num_blocks=len(parts)
    ).map_batches(
        Scorer,
        fn_constructor_kwargs={"arguments": arguments},
        batch_size=1,
        # Without a queue in front of each actor, no part waits while another actor is idle.
        compute=ray.data.ActorPoolStrategy(
            size=min(arguments.workers, len(parts)), max_tasks_in_flight_per_actor=1
        ),
        num_cpus=arguments.cpus_per_worker,
        num_gpus=arguments.gpus_per_worker,
    )
    for count, row in enumerate(dataset.iter_rows(), start=1):
        if row["error"]:
            raise UserError(row["error"])
        print(f"{count} of {len(parts)} parts: {row['images']} images, {row['bad']} bad")


def environment_of_workers() -> dict[str, str]:
    """Returns variables for the workers, which on a cluster have none of this process's."""
    # So that several workers can share a GPU.
    variables = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if "KERAS_BACKEND" in os.environ:
        variables["KERAS_BACKEND"] = os.environ["KERAS_BACKEND"]
    return variables


def check_resources(available: dict[str, float], arguments: argparse.Namespace) -> None:
    """Raises a `UserError` if the workers do not fit, since Ray would wait for more machines."""
    needs = {"CPU": arguments.cpus_per_worker, "GPU": arguments.gpus_per_worker}
    for kind, need in needs.items():
        if arguments.workers * need > available.get(kind, 0):
            raise UserError(
                f"{arguments.workers} workers need {arguments.workers * need:g} {kind}s, and the "
                f"Ray cluster has {available.get(kind, 0):g}. Pass a smaller --workers."
            )


def load_predictor(arguments: argparse.Namespace) -> Any:
    """Returns the model with its preprocessing."""
    from keras_convnext import Predictor, runtime

    runtime.start_quietly()
    if runtime.default_backend() != "tensorflow":
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")  # it decodes images, on processors only
    return Predictor.load(arguments.model, arguments.checkpoint)


class Scorer:
    """A worker: it loads the model once, and scores one part in each call."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.threads = ThreadPoolExecutor(arguments.cpus_per_worker)
        self.predictor: Any = None

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list]:
        """Scores a part; returns how many images it has, and how many are bad."""
        [part] = map(int, batch["part"])
        try:
            if self.predictor is None:
                self.predictor = load_predictor(self.arguments)
            images, bad = self._score(part)
        except UserError as error:  # Ray would show it below pages of its own stack
            return {"images": [0], "bad": [0], "error": [str(error)]}
        return {"images": [images], "bad": [bad], "error": [""]}

    def _score(self, part: int) -> tuple[int, int]:
        manifest = pq.ParquetFile(Path(self.arguments.output) / "manifest.parquet")
        paths = manifest.read_row_group(part)["path"].to_pylist()
        file = Manifest(Path(self.arguments.output), manifest.num_row_groups).file(part)
        images = bad = 0
        with atomic_write(file) as written, pq.ParquetWriter(written, SCHEMA) as writer:
            for rows in self._scored(images_of(paths, self.arguments.column)):
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                images += len(rows)
                bad += sum(row["error"] is not None for row in rows)
        return images, bad

    def _scored(self, sources: Iterable["Source"]) -> Iterator[list[dict[str, Any]]]:
        """Yields rows of the output, batch by batch.

        The next batch is decoded while the network works on the current one.
        """
        waiting: list = []
        for batch in in_groups(sources, self.arguments.batch_size):
            following = [(source, self.threads.submit(self._prepared, source)) for source in batch]
            if waiting:
                yield self._rows(waiting)
            waiting = following
        if waiting:
            yield self._rows(waiting)

    def _prepared(self, source: "Source") -> np.ndarray | str:
        """Returns an image as the network takes it, or why it cannot be read."""
        if source.image is None:
            return "There is no image in this row."
        try:
            return self.predictor.preprocessor(source.image)
        except DataError as error:
            return str(error)

    def _rows(self, batch: list) -> list[dict[str, Any]]:
        prepared = [future.result() for _, future in batch]
        best = iter(self._best([one for one in prepared if not isinstance(one, str)]))
        return [
            {"path": source.path, "row": source.row, "error": None}
            | ({"error": one} if isinstance(one, str) else next(best))
            for (source, _), one in zip(batch, prepared, strict=True)
        ]

    def _best(self, images: list[np.ndarray]) -> list[dict[str, Any]]:
        """Returns the most probable classes of prepared images."""
        if not images:
            return []
        # Always of one size, since JAX compiles the network for each.
        batch = np.zeros((self.arguments.batch_size, *images[0].shape), "float32")
        batch[: len(images)] = images
        rows = np.asarray(self.predictor.classifier.predict_on_batch(batch)[: len(images)])
        places = np.argsort(-rows, axis=-1, kind="stable")[:, : self.arguments.top]
        return [
            {
                "classes": [self.predictor.class_names[i] for i in order],
                "probabilities": row[order].astype("float32"),
            }
            for row, order in zip(rows, places, strict=True)
        ]


class Source(NamedTuple):
    """An image, where it is, and its row if that is a Parquet file."""

    path: str
    row: int | None
    image: str | bytes | None


def images_of(paths: Iterable[str], column: str) -> Iterator[Source]:
    """Yields the images of image files and Parquet files."""
    for path in paths:
        if path.endswith(".parquet"):
            yield from images_of_table(path, column)
        else:
            yield Source(path, None, path)


def images_of_table(path: str, column: str) -> Iterator[Source]:
    """Yields the images of a Parquet file, reading a few at a time."""
    row = 0
    for batch in pq.ParquetFile(path).iter_batches(batch_size=64, columns=[column]):
        for value in batch.column(column).to_pylist():
            if isinstance(value, dict):  # as Hugging Face stores images
                value = value.get("bytes") or value.get("path")
            if isinstance(value, str):
                value = os.path.join(os.path.dirname(path), value)
                yield Source(value, row, value)
            else:
                yield Source(path, row, value)
            row += 1


def print_summary(manifest: Manifest, shown: int = 10) -> None:
    """Prints how many images there are and how many are bad, and names the first of these."""
    images, bad = 0, []
    for part in range(manifest.parts):
        file = manifest.file(part)
        images += pq.read_metadata(file).num_rows
        is_bad = pc.field("error").is_valid()
        bad += pq.read_table(file, columns=["path", "row", "error"], filters=is_bad).to_pylist()
    print(f"{images} images in {manifest.directory}, {len(bad)} of them bad")
    for row in bad[:shown]:
        place = row["path"] if row["row"] is None else f"{row['path']}, row {row['row']}"
        print(f"  {place}: {row['error']}")
    if len(bad) > shown:
        print(f"  and {len(bad) - shown} more; `error` names them all")


if __name__ == "__main__":
    main()
