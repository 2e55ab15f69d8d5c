"""The training input pipeline here against timm's loader with two workers, of the same recipe.

    python benchmarks/input.py --save

Both read the same JPEG files of 500x375 pixels, the size of most ImageNet images, cropped from
scikit-learn's two photographs, and produce training batches at 224 pixels. The rows are: the
paper's augmentation; decoding, cropping, resizing and flipping only; and KerasCV's policy here
against the paper's by timm. timm runs in a process of its own. The two take turns and one waits
while the other runs, so a slow phase of the machine affects both. Every turn starts a new iterator
and does not count its first batches. The table shows medians of the rounds, and the median of
their ratios. The last line of output is one JSON document; `--save` also writes it to
`benchmarks/results/input.json`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
from common import make_parser, new_document, progress, publish
from PIL import Image
from rich.table import Table

from keras_convnext.benchmark.machine import describe_machine

SIZE, BATCH, CLASSES, WORKERS = 224, 64, 1000, 2
JPEG_WIDTH, JPEG_HEIGHT, JPEG_QUALITY = 500, 375, 90
PLAIN = "decode, crop, resize, flip"
# The `augment` section of a recipe, and the settings of timm's loader to compare it with.
ROWS = {
    "paper": ({"policy": "paper"}, "paper"),
    PLAIN: ({"policy": "none", "label_smoothing": 0.0}, PLAIN),
    "keras_cv": ({"policy": "keras_cv"}, "paper"),
}
TIMM = {
    "paper": {"auto_augment": "rand-m9-mstd0.5-inc1", "re_prob": 0.25, "re_mode": "pixel"},
    PLAIN: {"color_jitter": None},
}


def main() -> None:
    parser = make_parser(__doc__, "input")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, default=12, help="counted in each turn")
    parser.add_argument("--warm-up", type=int, default=6, help="batches not counted in each turn")
    parser.add_argument("--files", type=int, default=512)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--peer", metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        answer_for_timm(arguments.peer, arguments.warm_up, arguments.batches)
        return

    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder), arguments.files)
        rates = measure(folder, arguments)
    document = new_document(
        "input",
        machine=describe_machine(),
        image_size=SIZE,
        batch_size=BATCH,
        jpeg_size=[JPEG_WIDTH, JPEG_HEIGHT],
        timm_workers=WORKERS,
        rounds=arguments.rounds,
        images_a_turn=arguments.batches * BATCH,
        images_per_second={
            row: {side: statistics.median(of_side) for side, of_side in sides.items()}
            for row, sides in rates.items()
        },
        ratio={
            row: statistics.median(
                ours / timms for ours, timms in zip(sides["ours"], sides["timm"], strict=True)
            )
            for row, sides in rates.items()
        },
        images_per_second_of_every_round=rates,
    )
    publish(document, tables(document), to_file=arguments.save)


def write_photographs(folder: Path, count: int) -> None:
    """Writes crops of two photographs into ten classes, as JPEGs with 4:2:0 like ImageNet's."""
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    generator = np.random.default_rng(0)
    for number in range(count):
        photograph = photographs[number % 2]
        scale = generator.uniform(0.5, 1)
        width, height = round(560 * scale), round(420 * scale)
        left = int(generator.integers(0, photograph.width - width + 1))
        top = int(generator.integers(0, photograph.height - height + 1))
        part = photograph.resize(
            (JPEG_WIDTH, JPEG_HEIGHT),
            Image.Resampling.BICUBIC,
            (left, top, left + width, top + height),
        )
        file = folder / str(number % 10) / f"{number}.jpg"
        file.parent.mkdir(exist_ok=True)
        part.save(file, quality=JPEG_QUALITY, subsampling="4:2:0")


def measure(folder: str, arguments: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Returns the images per second of every turn."""
    datasets = our_datasets(folder, arguments)
    rates: dict[str, dict[str, list[float]]] = {
        row: {"ours": [], "timm": []} for row in arguments.rows
    }
    with timms_process(folder, arguments) as timm:
        turns = [(turn, row) for turn in range(arguments.rounds) for row in arguments.rows]
        for _, row in progress(turns, "Turns"):
            print(ROWS[row][1], file=timm.stdin, flush=True)
            rates[row]["timm"].append(float(timm.stdout.readline()))
            rates[row]["ours"].append(rate(datasets[row], arguments.warm_up, arguments.batches))
        timm.stdin.close()
    return rates


def rate(batches: Iterable, warm_up: int, counted: int) -> float:
    """Returns the images per second of one turn, after its warm-up batches."""
    batches = iter(batches)
    for _ in islice(batches, warm_up):
        pass
    started = time.perf_counter()
    for _ in islice(batches, counted):
        pass
    return counted * BATCH / (time.perf_counter() - started)


def our_datasets(folder: str, arguments: argparse.Namespace) -> dict:
    from keras_convnext import runtime

    runtime.start_quietly()
    from keras_convnext.data.pipeline import training_dataset
    from keras_convnext.data.sources.load import image_folder
    from keras_convnext.recipe import Augment, Data

    split = image_folder(folder, class_names=tuple(str(number) for number in range(CLASSES)))
    data = Data(source="folder", path=folder, image_size=SIZE, batch_size=BATCH)
    epochs = 1 + (arguments.warm_up + arguments.batches) * BATCH // (arguments.files - BATCH)
    return {
        row: training_dataset(split, data, Augment(**ROWS[row][0]), epochs, seed=0)
        for row in arguments.rows
    }


def timms_process(folder: str, arguments: argparse.Namespace) -> subprocess.Popen:
    """Starts a process that reads names of `TIMM` and answers with images per second."""
    command = [sys.executable, __file__, "--peer", folder]
    command += ["--warm-up", str(arguments.warm_up), "--batches", str(arguments.batches)]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}  # idle threads do not spin
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def answer_for_timm(folder: str, warm_up: int, counted: int) -> None:
    loaders = {name: TimmsBatches(folder, name, warm_up + counted) for name in TIMM}
    for line in sys.stdin:
        print(rate(loaders[line.strip()], warm_up, counted), flush=True)


class TimmsBatches:
    """The batches of timm's loader, with Mixup for "paper"; its workers live for all turns."""

    def __init__(self, folder: str, name: str, batches: int):
        from keras_convnext.benchmark.torchvision_operations import make_torchvision_importable

        make_torchvision_importable()
        from timm.data import ImageDataset, Mixup, create_loader

        dataset = ImageDataset(folder)
        samples = dataset.reader.samples
        # As many batches as one turn needs, so that the workers are idle afterwards.
        dataset.reader.samples = (samples * (1 + batches * BATCH // len(samples)))[
            : batches * BATCH
        ]
        self.loader = create_loader(
            dataset,
            (3, SIZE, SIZE),
            BATCH,
            is_training=True,
            interpolation="bicubic",
            num_workers=WORKERS,
            use_prefetcher=False,
            **TIMM[name],
        )
        mixup = Mixup(0.8, 1.0, label_smoothing=0.1, num_classes=CLASSES)
        self.mix = mixup if name == "paper" else lambda images, labels: (images, labels)

    def __iter__(self):
        for images, labels in self.loader:
            yield self.mix(images, labels)


def tables(document: dict) -> Table:
    table = Table("", "keras_convnext", f"timm, {WORKERS} workers", "ratio")
    for row, ratio in document["ratio"].items():
        rates = [document["images_per_second"][row][side] for side in ("ours", "timm")]
        table.add_row(row, *(f"{value:.0f} images/s" for value in rates), f"{ratio:.2f}")
    return table


if __name__ == "__main__":
    main()
