import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from keras_convnext.benchmark.report import ratio_table, speed_table, write_report

pytestmark = pytest.mark.backend_free


def row(project, precision, seconds):
    return {
        "project": project,
        "network": "convnext_tiny",
        "backend": "torch",
        "precision": precision,
        "parameters": 28_589_128,
        "build_seconds": 1.5,
        "first_call_seconds": {"forward": 2.5, "train": 3.5},
        "seconds": {"forward": [seconds], "train": [4 * seconds]},
        "images_per_second": {"forward": 8 / seconds, "train": 2 / seconds},
        "train_memory_mib": 1234.0 if project == "timm" else None,
    }


@pytest.fixture
def document():
    return {
        "batch_size": 8,
        "image_size": 224,
        "rounds": 1,
        "machine": {"processor": "P", "processors": 2, "gpus": []},
        "results": [
            row("keras_convnext", "float32", 0.25),
            row("timm", "float32", 0.5),
            row("keras_convnext", "bfloat16", 0.1),
        ],
    }


def printed(table):
    console = Console(width=250)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_the_table_has_a_row_for_each_candidate(document):
    text = printed(speed_table(document))
    assert "224x224, batch 8" in text and "2 x P" in text
    line = next(line for line in text.splitlines() if "timm" in line)
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells == [
        *("timm convnext_tiny on torch", "float32", "28.6 M"),
        *("16.0", "62.5", "2.5 s", "4.0", "250.0", "3.5 s", "1,234 MiB", "1.5 s"),
    ]


def test_ratios_have_a_table(document):
    lines = [line for line in printed(ratio_table(document)).splitlines() if "timm" in line]
    assert len(lines) == 1
    assert lines[0].count("2.00") == 2


def test_the_report_is_a_document_and_a_picture_with_a_bar_for_each_figure(document, tmp_path):
    write_report(document, tmp_path / "new")
    assert json.loads((tmp_path / "new/benchmark.json").read_text()) == document
    picture = np.asarray(Image.open(tmp_path / "new/benchmark.png").convert("RGB"))
    for colour in ((31, 119, 180), (255, 127, 14)):  # of float32 and bfloat16
        assert np.all(picture == colour, axis=-1).sum() > 1000


def test_without_matplotlib_its_extra_is_named(document, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match=r"keras-convnext\[train\]"):
        write_report(document, tmp_path)
