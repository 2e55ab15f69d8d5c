"""Exported networks in ONNX Runtime and OpenVINO: their speed beside timm's, and their accuracy.

    python benchmarks/deployed.py --save

This package exports our network; the converters of PyTorch export timm's. timm's network takes
normalized images, ours normalizes them itself. Both are quantized with the same settings and the
same calibration images, crops of scikit-learn's two photographs. The calls alternate, and the
medians are compared. Then the digits recipe is trained (about 4 minutes; or `--run DIRECTORY` of a
finished run) and every engine classifies the held-out digits in every precision. The last line of
output is one JSON document; `--save` also writes it to `benchmarks/results/deployed.json`.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from common import DIGITS_RECIPE, ROOT, make_parser, new_document, publish
from rich.console import Group
from rich.table import Table
from sklearn.datasets import load_sample_images

import keras_convnext
from keras_convnext import Predictor, imagenet
from keras_convnext.benchmark.machine import describe_machine
from keras_convnext.benchmark.torchvision_operations import make_torchvision_importable
from keras_convnext.data.sources.load import load_splits
from keras_convnext.runs.directory import RunDirectory
from keras_convnext.runtime import describe_python
from keras_convnext.serving import quantization
from keras_convnext.serving.onnx_model import write_onnx
from keras_convnext.serving.openvino_model import write_openvino

SIZE = 224
# The export format that an engine reads, and its suffix.
FORMS = {"ONNX Runtime": ("onnx", ".onnx"), "OpenVINO": ("openvino", ".xml")}
CASES = (
    ("ONNX Runtime", "float32"),
    ("ONNX Runtime", "int8"),
    ("OpenVINO", "float32"),
    ("OpenVINO", "bfloat16"),
    ("OpenVINO", "int8"),
)
PACKAGES = ("keras-convnext", "keras", "tensorflow", "torch", "timm", "onnx", "onnxruntime")
PACKAGES += ("openvino", "nncf")


def main() -> None:
    parser = make_parser(__doc__, "deployed")
    parser.add_argument("--model", default="convnext_tiny")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--run", type=Path, help="a finished run of the digits recipe")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        run = arguments.run or keras_convnext.train(ROOT / DIGITS_RECIPE, folder / "run")[0].path
        document = new_document(
            "deployed",
            machine={**describe_machine(), **describe_python(PACKAGES)},
            model=arguments.model,
            image_size=SIZE,
            rounds=arguments.rounds,
            speed=speed(arguments.model, arguments.rounds, folder),
            digits=accuracy(run, folder),
        )
    publish(document, tables(document), to_file=arguments.save)


def speed(name: str, rounds: int, folder: Path) -> list[dict]:
    """Returns the medians of ours and timm's in every case."""
    export_ours(name, folder / "ours")
    export_timms(name, folder / "timm")
    rows = []
    for batch_size in (8, 1):
        images = photographs(batch_size)
        for engine, precision in CASES:
            calls = {
                who: runner(engine, precision, file_of(engine, precision, folder / who))
                for who in ("ours", "timm")
            }
            inputs = {"ours": images, "timm": normalized(images)}
            medians = alternate(calls, inputs, rounds)
            per_image = {name: 1000 * value / batch_size for name, value in medians.items()}
            rows.append(
                {
                    "engine": engine,
                    "precision": precision,
                    "batch_size": batch_size,
                    "ours_ms_per_image": round(per_image["ours"], 2),
                    "timm_ms_per_image": round(per_image["timm"], 2),
                    "ratio": round(medians["timm"] / medians["ours"], 3),
                }
            )
    return rows


def file_of(engine: str, precision: str, folder: Path) -> Path:
    """Returns the file in `folder` that an engine reads to compute in a precision."""
    stored = "int8" if precision == "int8" else "float32"  # the engine chooses bfloat16 itself
    return folder / f"{stored}{FORMS[engine][1]}"


def export_ours(name: str, folder: Path) -> None:
    predictor = Predictor.of_model(keras_convnext.create_model(name, input_shape=(SIZE, SIZE, 3)))
    for precision, calibration in (("float32", None), ("int8", photographs(30))):
        write_onnx(predictor, file_of("ONNX Runtime", precision, folder), calibration)
        write_openvino(predictor, file_of("OpenVINO", precision, folder), calibration)


def export_timms(name: str, folder: Path) -> None:
    make_torchvision_importable()
    import timm

    folder.mkdir()
    network, images = timm.create_model(name).eval(), torch.zeros(2, 3, SIZE, SIZE)
    program = torch.onnx.export(
        network,
        (images,),
        input_names=["images"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    program.save(folder / "float32.onnx")
    with torch.no_grad():
        converted = openvino.convert_model(
            network, example_input=images, input=[[-1, 3, SIZE, SIZE]]
        )
    converted.inputs[0].set_names({"images"})
    openvino.save_model(converted, folder / "float32.xml", compress_to_fp16=False)
    calibration = normalized(photographs(30))
    integers = quantization.quantize(onnx.load(folder / "float32.onnx"), "images", calibration)
    onnx.save(integers, folder / "int8.onnx")
    openvino.save_model(
        quantization.quantize(converted, "images", calibration), folder / "int8.xml"
    )


def photographs(count: int) -> np.ndarray:
    """Returns crops of scikit-learn's two photographs, with values from 0 to 255."""
    random, pictures = np.random.default_rng(0), load_sample_images().images
    corners = zip(random.integers(0, 200, count), random.integers(0, 400, count), strict=True)
    crops = [
        pictures[number % 2][top : top + SIZE, left : left + SIZE]
        for number, (top, left) in enumerate(corners)
    ]
    return np.stack(crops).astype("float32")


def normalized(images: np.ndarray) -> np.ndarray:
    """Returns images as timm's networks take them: normalized, with the channels first."""
    values = (images / 255 - np.array(imagenet.MEAN)) / np.array(imagenet.STD)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2), "float32")


def runner(engine: str, precision: str, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    if engine == "ONNX Runtime":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda images: session.run(None, {name: images})[0]
    # The layers that are not int8 run in bfloat16, OpenVINO's default if the CPU supports it.
    hint = "f32" if precision == "float32" else "bf16"
    core = openvino.Core()
    compiled = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": hint})
    return lambda images: compiled(images)[0]


def alternate(calls: dict, inputs: dict, rounds: int) -> dict[str, float]:
    """Returns the median seconds of every call, after two warm-up rounds."""
    seconds = {name: [] for name in calls}
    for number in range(rounds + 2):
        for name, call in calls.items():
            started = time.perf_counter()
            call(inputs[name])
            if number >= 2:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def accuracy(run: Path, folder: Path) -> list[dict]:
    """Returns the mistakes on the held-out digits, of Keras and of every case."""
    _, validation = load_splits(RunDirectory.open(run).recipe().data)
    predictor = Predictor.load(run)
    images = np.stack([predictor.preprocessor(image) for image in validation.images])
    expected = predictor.classifier.predict(images, verbose=0)
    rows = [figures("Keras", "float32", expected, expected, validation.labels)]
    for engine, precision in CASES:
        path = file_of(engine, precision, folder / "digits")
        if not path.exists():
            keras_convnext.export(run, path, FORMS[engine][0], precision=path.stem)
        found = runner(engine, precision, path)(images)
        rows.append(figures(engine, precision, found, expected, validation.labels))
    return rows


def figures(engine, precision, probabilities, expected, labels) -> dict:
    return {
        "engine": engine,
        "precision": precision,
        "mistakes": int((probabilities.argmax(axis=1) != labels).sum()),
        "images": len(labels),
        "greatest_change_of_a_probability": float(f"{np.abs(probabilities - expected).max():.2g}"),
    }


def tables(document: dict) -> Group:
    table = Table("engine", "precision", title="Milliseconds an image")
    for title in ("batch", "ours", "timm", "timm / ours"):
        table.add_column(title, justify="right")
    for row in document["speed"]:
        times = (f"{row[f'{who}_ms_per_image']:.1f}" for who in ("ours", "timm"))
        name = (row["engine"], row["precision"], str(row["batch_size"]))
        table.add_row(*name, *times, f"{row['ratio']:.2f}")
    digits = Table("engine", "precision", title="Held-out digits")
    for title in ("mistakes", "images", "greatest change of a probability"):
        digits.add_column(title, justify="right")
    for row in document["digits"]:
        digits.add_row(*map(str, row.values()))
    return Group(table, digits)


if __name__ == "__main__":
    main()
