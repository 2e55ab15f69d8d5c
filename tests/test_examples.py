"""Every example runs as its first lines say, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.backend_free

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name, *arguments, cwd):
    """Returns what an example prints."""
    process = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", *arguments],
        env={**os.environ, "EPOCHS": "1"},
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_all_examples_are_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"fit", "feature_pyramid", "serve"}


def test_fit_trains_and_saves(tmp_path):
    assert "val_accuracy" in run("fit", cwd=tmp_path)
    assert (tmp_path / "digits.keras").is_file()


def test_feature_pyramid_prints_four_levels(tmp_path):
    printed = run("feature_pyramid", cwd=tmp_path)
    assert printed.splitlines()[-1] == "P5 (1, 8, 10, 768)"


def test_serve_names_what_an_image_shows(trained, tmp_path):
    run_directory, _ = trained
    printed = run("serve", run_directory.saved_model, EXAMPLES / "digit.png", cwd=tmp_path)
    assert len(printed.splitlines()) == 1 + 5
