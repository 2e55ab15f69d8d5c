"""The training input pipeline here against timm's loader with two workers, of the same recipe.

    python benchmarks/input.py --save

Both read the same JPEG files, of 500x375 pixels like most of ImageNet's, cut out of scikit-learn's
two photographs, and give batches for training at 224 pixels. The rows are the paper's augmentation;
decoding, cropping, resizing and mirroring alone; and KerasCV's policy here beside the paper's by
timm, which has no other. timm runs in a process of its own, and waits while tf.data runs, as does
tf.data while timm runs: they take turns, so that a slow spell of the machine hits both. Every turn
starts anew and does not count its first batches. The table gives the medians of the rounds; what
counts is the ratio, the median of each round's. The last line of output is one JSON document;
`--save` also writes it to `benchmarks/results/input.json`.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import date
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

RESULT = Path(__file__).parent / "results" / "input.json"
SIZE, BATCH, CLASSES, WORKERS = 224, 64, 1000, 2
JPEG_WIDTH, JPEG_HEIGHT, JPEG_QUALITY = 500, 375, 90
PLAIN = "decode, crop, resize, flip"
# The settings of `augment` in a recipe here, and what timm's loader is asked for beside it.
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, default=12, help="counted in each turn")
    parser.add_argument("--warm-up", type=int, default=6, help="batches not counted in each turn")
    parser.add_argument("--files", type=int, default=512)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--save", action="store_true", help=f"write to {RESULT}")
    parser.add_argument("--peer", metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        answer_for_timm(arguments.peer, arguments.warm_up, arguments.batches)
        return

    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder), arguments.files)
        rates = measure(folder, arguments)
    document = {
        "benchmark": "input",
        "date": date.today().isoformat(),
        "image_size": SIZE,
        "batch_size": BATCH,
        "jpeg_size": [JPEG_WIDTH, JPEG_HEIGHT],
        "timm_workers": WORKERS,
        "rounds": arguments.rounds,
        "images_a_turn": arguments.batches * BATCH,
        "images_per_second": {
            row: {side: statistics.median(of_side) for side, of_side in sides.items()}
            for row, sides in rates.items()
        },
        "ratio": {
            row: statistics.median(
                ours / timms for ours, timms in zip(sides["ours"], sides["timm"], strict=True)
            )
            for row, sides in rates.items()
        },
        "images_per_second_of_every_round": rates,
        **environment(),
    }
    show(document)
    if arguments.save:
        RESULT.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document))


def write_photographs(folder: Path, count: int) -> None:
    """Writes JPEGs of parts of two photographs into ten classes, as ImageNet has them: 4:2:0."""
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
        for _, row in track(turns, description="Turns", console=Console(stderr=True)):
            print(ROWS[row][1], file=timm.stdin, flush=True)
            rates[row]["timm"].append(float(timm.stdout.readline()))
            rates[row]["ours"].append(rate(datasets[row], arguments.warm_up, arguments.batches))
        timm.stdin.close()
    return rates


def rate(batches: Iterable, warm_up: int, counted: int) -> float:
    """Returns the images per second of one turn, in batches after those to warm up."""
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
    """Starts a process that answers each name of a recipe with the images per second."""
    command = [sys.executable, __file__, "--peer", folder]
    command += ["--warm-up", str(arguments.warm_up), "--batches", str(arguments.batches)]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}  # or idle threads would spin
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def answer_for_timm(folder: str, warm_up: int, counted: int) -> None:
    loaders = {name: TimmsBatches(folder, name, warm_up + counted) for name in TIMM}
    for line in sys.stdin:
        print(rate(loaders[line.strip()], warm_up, counted), flush=True)


class TimmsBatches:
    """The batches of timm's loader, mixed if the recipe mixes; its workers outlive a turn."""

    def __init__(self, folder: str, name: str, batches: int):
        from keras_convnext.benchmark.torchvision_operations import make_torchvision_importable

        make_torchvision_importable()
        from timm.data import ImageDataset, Mixup, create_loader

        dataset = ImageDataset(folder)
        samples = dataset.reader.samples
        # As many batches as one turn takes, so that the workers rest when it is over.
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


def environment() -> dict:
    from importlib.metadata import version

    from keras_convnext import runtime

    described = runtime.describe()
    others = {name: version(name) for name in ("timm", "torchvision", "pillow")}
    return {
        **described,
        "processor": processor(),
        "packages": {**described["packages"], **others},
    }


def processor() -> str:
    listed = Path("/proc/cpuinfo")  # Linux, where `platform` does not know the model
    lines = listed.read_text().splitlines() if listed.exists() else []
    models = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def show(document: dict) -> None:
    table = Table("", "keras_convnext", f"timm, {WORKERS} workers", "ratio")
    for row, ratio in document["ratio"].items():
        rates = [document["images_per_second"][row][side] for side in ("ours", "timm")]
        table.add_row(row, *(f"{value:.0f} images/s" for value in rates), f"{ratio:.2f}")
    Console(stderr=True).print(table)


if __name__ == "__main__":
    main()
