"""Memory and time that converting ConvNeXt-XL takes, as multiples of the file's size.

    python benchmarks/conversion.py --save

Writes a checkpoint with random values by timm's own code, as `.pth` and `.safetensors`, and runs
`keras-convnext weights convert` on them. Each conversion runs in a new process, and the peak is
the resident memory of the whole process: Python, the libraries, and the pages of mapped files. The
last line of output is one JSON document; `--save` also writes it to
`benchmarks/results/conversion.json`.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from common import answer_of, make_parser, new_document, progress, publish
from rich.table import Table

CONVERSIONS = [
    ("model.safetensors", "out.pth", "official"),
    ("model.safetensors", "out.weights.h5", None),
    ("model.safetensors", "out.keras", None),
    ("model.pth", "out.safetensors", "timm"),
    ("model.pth", "out.safetensors", "safetensors"),
    ("model.pth", "out.keras", None),
    ("converted.keras", "out.safetensors", "timm"),
]
MAKE_CHECKPOINT = """
import sys
from keras_convnext.benchmark.torchvision_operations import make_torchvision_importable
make_torchvision_importable()
import safetensors.torch, timm, torch
tensors = timm.create_model("convnext_xlarge").state_dict()
safetensors.torch.save_file(tensors, f"{sys.argv[1]}/model.safetensors")
torch.save(tensors, f"{sys.argv[1]}/model.pth")
"""
# Runs the command in its only child process, so that the peak is the child's.
MEASURE = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(json.dumps({"seconds": time.perf_counter() - started, "peak_bytes": peak}))
"""


def main() -> None:
    parser = make_parser(__doc__, "conversion")
    parser.add_argument("--backend", default="tensorflow", help="for the files of Keras")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-c", MAKE_CHECKPOINT, name], check=True)
        size = (folder / "model.safetensors").stat().st_size
        convert(folder / "model.safetensors", folder / "converted.keras", None, arguments.backend)
        rows = []
        for source, output, format in progress(CONVERSIONS, "Conversions"):
            measured = convert(folder / source, folder / output, format, arguments.backend)
            (folder / output).unlink()
            times = measured["peak_bytes"] / size
            rows.append(
                {"from": source, "to": output, "format": format, **measured, "times": times}
            )
    document = new_document(
        "conversion", backend=arguments.backend, file_bytes=size, conversions=rows
    )
    publish(document, tables(document), to_file=arguments.save)


def convert(source: Path, output: Path, format: str | None, backend: str) -> dict:
    """Returns the seconds and the peak of one conversion."""
    command = [Path(sys.executable).with_name("keras-convnext"), "weights", "convert"]
    command += [source, output, *(["--format", format] if format else [])]
    return answer_of(["-c", MEASURE, *command], {**os.environ, "KERAS_BACKEND": backend})


def tables(document: dict) -> Table:
    table = Table("from", "to", "format", "seconds", "peak, times the file's size")
    for row in document["conversions"]:
        table.add_row(
            row["from"],
            row["to"],
            row["format"] or "",
            f"{row['seconds']:.1f}",
            f"{row['times']:.2f}",
        )
    return table


if __name__ == "__main__":
    main()
