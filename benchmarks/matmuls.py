"""An upper bound for ConvNeXt's speed on this CPU: its matrix multiplications alone.

    python benchmarks/matmuls.py --save

Times every matrix multiplication of a forward pass (dense layers, stem, downsampling) in
TensorFlow, JAX and PyTorch, each in a new process, with the call that our kernels use. The sum
gives the images per second that a forward pass cannot exceed; a train step has three
multiplications for each of them. The last line of output is one JSON document; `--save` also
writes it to `benchmarks/results/matmuls.json`.
"""

import argparse
import itertools
import json
import os
import statistics
import time

from common import answer_of, make_parser, new_document, progress, publish
from rich.table import Table

from keras_convnext.benchmark.candidates import PRECISIONS
from keras_convnext.benchmark.machine import describe_machine
from keras_convnext.catalog.architectures import VARIANTS
from keras_convnext.runtime import BACKENDS

CALLS = 9


def matmuls(model: str, batch_size: int, image_size: int) -> dict[tuple[int, int, int], int]:
    """Returns the multiplications `(rows, inner, columns)` of a forward pass with their counts."""
    variant = VARIANTS[model]
    side, counts = image_size // variant.patch_size, {}
    inner = 3 * variant.patch_size**2
    for depth, channels in zip(variant.depths, variant.dims, strict=True):
        rows = batch_size * side * side
        counts[rows, inner, channels] = 1
        counts[rows, channels, 4 * channels] = counts[rows, 4 * channels, channels] = depth
        side, inner = side // 2, 4 * channels
    return counts


def matmul_of(backend: str):
    """Returns a function that multiplies two matrices and waits, and one that creates a matrix."""
    if backend == "torch":
        import torch

        from keras_convnext.kernels.torch.matmul import matmul as product

        def multiply(a, b):
            with torch.no_grad():
                product(a, b)

        return multiply, lambda shape, dtype: torch.ones(shape, dtype=getattr(torch, dtype))
    if backend == "jax":
        import jax

        from keras_convnext.kernels.jax.onednn.matmul import matmul as product
        from keras_convnext.kernels.jax.onednn.support import has_onednn

        compiled = jax.jit(product if has_onednn() else jax.numpy.matmul)
        return lambda a, b: compiled(a, b).block_until_ready(), jax.numpy.ones
    import tensorflow as tf

    return tf.function(tf.matmul), tf.ones


def time_all(backend: str, precision: str, model: str, batch_size: int, image_size: int) -> list:
    """Returns a row for each multiplication: its sizes, its count, and its seconds."""
    multiply, ones = matmul_of(backend)
    rows = []
    for (height, inner, width), count in matmuls(model, batch_size, image_size).items():
        a, b = ones((height, inner), precision), ones((inner, width), precision)
        seconds = []
        for _ in range(CALLS + 2):
            started = time.perf_counter()
            multiply(a, b)
            seconds.append(time.perf_counter() - started)
        rows.append([height, inner, width, count, statistics.median(seconds[2:])])
    return rows


def main() -> None:
    parser = make_parser(__doc__, "matmuls")
    parser.add_argument("--model", default="convnext_tiny", choices=VARIANTS)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--time", nargs=2, metavar=("BACKEND", "PRECISION"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    settings = arguments.model, arguments.batch_size, arguments.image_size
    if arguments.time:
        print(json.dumps(time_all(*arguments.time, *settings)))
        return

    pairs = list(itertools.product(BACKENDS, PRECISIONS))
    bar = progress(pairs, "Matrix multiplications")
    results = [measure(backend, precision, settings) for backend, precision in bar]
    document = new_document(
        "matmuls",
        model=arguments.model,
        batch_size=arguments.batch_size,
        image_size=arguments.image_size,
        machine=describe_machine(),
        results=results,
    )
    publish(document, tables(document), to_file=arguments.save)


def measure(backend: str, precision: str, settings: tuple) -> dict:
    """Times the multiplications in a process of the backend, and sums them."""
    names = ("--model", "--batch-size", "--image-size")
    options = [str(x) for pair in zip(names, settings, strict=True) for x in pair]
    rows = answer_of(
        [__file__, "--time", backend, precision, *options],
        {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    seconds = sum(count * one for *_, count, one in rows)
    operations = sum(2 * m * k * n * count for m, k, n, count, _ in rows)
    return {
        "backend": backend,
        "precision": precision,
        "gigaflops": operations / seconds / 1e9,
        "images_per_second": {
            "forward": settings[1] / seconds,
            "train": settings[1] / (3 * seconds),
        },
        "matmuls": rows,
    }


def tables(document: dict) -> Table:
    table = Table("backend", "precision", "GFLOP/s", "forward, images/s", "train step, images/s")
    for row in document["results"]:
        rates = row["images_per_second"].values()
        cells = (f"{row['gigaflops']:.0f}", *(f"{rate:.1f}" for rate in rates))
        table.add_row(row["backend"], row["precision"], *cells)
    return table


if __name__ == "__main__":
    main()
