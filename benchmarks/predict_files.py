"""Predictions for many files: their peak memory, and their speed beside timm's.

    python benchmarks/predict_files.py --save

Memory: `keras-convnext predict FOLDER --output out.csv` for 200 and for 20,000 PNG files of 48x32
pixels and a toy network, each in a new process. Speed: ConvNeXt-Tiny on 128 JPEG files of 500x375
pixels at 224x224, beside a loop over Pillow, `timm.data.create_transform` and timm's network in
batches of 32, in one process in turn, on each backend. The last line of output is one JSON
document; `--save` also writes it to `benchmarks/results/predict_files.json`.
"""

import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import answer_of, make_parser, new_document, progress, publish
from PIL import Image
from rich.table import Table

from keras_convnext.benchmark.machine import describe_machine
from keras_convnext.runtime import BACKENDS

FEW, MANY, PHOTOGRAPHS, ROUNDS = 200, 20_000, 128, 5


def main() -> None:
    parser = make_parser(__doc__, "predict_files")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder)
        document = new_document(
            "predict_files",
            machine=describe_machine(),
            peak_memory_mib={
                str(count): ask("torch", "memory", folder, count) for count in (FEW, MANY)
            },
            images_per_second={
                backend: ask(backend, "speed", folder) for backend in progress(BACKENDS, "Backends")
            },
        )
    publish(document, table(document), to_file=arguments.save)


def write_files(folder: Path) -> None:
    """Writes the folders `200`, `20000` and `photographs`."""
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (32, 48, 3), dtype="uint8")).save(folder / "one.png")
    for count in (FEW, MANY):
        (folder / str(count)).mkdir()
        for number in range(count):
            os.link(folder / "one.png", folder / str(count) / f"{number:05}.png")
    (folder / "photographs").mkdir()
    for number in range(PHOTOGRAPHS):
        coarse = Image.fromarray(random.integers(0, 256, (30, 40, 3), dtype="uint8"))
        photograph = coarse.resize((500, 375), Image.Resampling.BICUBIC)
        photograph.save(folder / "photographs" / f"{number:03}.jpg", quality=90)


def ask(backend: str, *arguments: object):
    """Returns the answer of this script in a new process."""
    return answer_of([__file__, *arguments], {**os.environ, "KERAS_BACKEND": backend})


def memory(folder: str, count: str) -> int:
    """Predicts the files of a folder; returns the peak memory of the process in MiB."""
    import resource

    import keras_convnext
    from keras_convnext.prediction.predict_files import predict_files

    model = keras_convnext.ConvNeXt((1,), (8,), input_shape=(32, 32, 3), classes=10)
    path = Path(folder, "toy.keras")
    model.save(path)
    output = Path(folder, f"{count}.csv")
    for _ in predict_files(path, [Path(folder, count)], output=output):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def speed(folder: str) -> dict[str, float]:
    """Returns the images a second of this package and of timm, and their ratio."""
    import time

    from keras_convnext.benchmark.torchvision_operations import make_torchvision_importable

    make_torchvision_importable()
    import keras  # noqa: F401 (before timm, which imports PyTorch)

    import keras_convnext
    from keras_convnext.prediction.rows import prediction_rows

    files = sorted(Path(folder, "photographs").iterdir())
    predictor = keras_convnext.Predictor.of_model(keras_convnext.ConvNeXtTiny())
    predict_by_timm = timms_loop()
    ways = {
        "keras_convnext": lambda: list(prediction_rows(predictor, files)),
        "timm": lambda: predict_by_timm(files),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS + 1):
        for way, predict in ways.items():
            started = time.perf_counter()
            predict()
            seconds[way].append(time.perf_counter() - started)
    found = {way: len(files) / statistics.median(some[1:]) for way, some in seconds.items()}
    pairs = zip(seconds["timm"][1:], seconds["keras_convnext"][1:], strict=True)
    return found | {"ratio": statistics.median(theirs / ours for theirs, ours in pairs)}


def timms_loop():
    import timm
    import torch

    network = timm.create_model("convnext_tiny").eval()
    transform = timm.data.create_transform(224, interpolation="bicubic", crop_pct=0.875)

    def predict(files):
        with torch.inference_mode():
            for start in range(0, len(files), 32):
                batch = [transform(Image.open(file).convert("RGB")) for file in files[start:][:32]]
                network(torch.stack(batch)).softmax(dim=-1).topk(5).values.tolist()

    return predict


def table(document: dict) -> Table:
    memory = document["peak_memory_mib"]
    result = Table("", "keras_convnext", "timm", "ratio")
    result.add_row(
        f"MiB for {FEW} and {MANY:,} files",
        f"{memory[str(FEW)]} and {memory[str(MANY)]}",
        "",
        f"{memory[str(MANY)] / memory[str(FEW)]:.2f}",
    )
    for backend, found in document["images_per_second"].items():
        cells = (f"{found[way]:.1f}" for way in ("keras_convnext", "timm"))
        result.add_row(f"images/s, {backend}", *cells, f"{found['ratio']:.2f}")
    return result


if __name__ == "__main__":
    kinds = {"memory": memory, "speed": speed}
    if len(sys.argv) > 1 and sys.argv[1] in kinds:
        print(json.dumps(kinds[sys.argv[1]](*sys.argv[2:])))
    else:
        main()
