"""Runs of the real command, killed again and again, end like one that was never killed."""

import itertools
import random
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import quick_python
from model_files import tensors
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from keras_convnext.runs.directory import RunDirectory

KILL_AT = Path(__file__).parents[1] / "helpers" / "kill_at.py"
KILLS = 5  # one more than OPERATIONS: the last by the clock
RECIPE = """
name: tiny
model: {depths: [2], dims: [8], kernel_size: 3, drop_path_rate: 0.3}
data: {source: digits, image_size: 8, crop_fraction: 1.0, batch_size: 480}
augment: {policy: paper, rand_augment: null}
optimizer: {ema_decay: 0.9, layer_decay: 0.8}
schedule: {epochs: 4, warmup_epochs: 1}
export: {saved_model: false}
"""
# Moments that a clock would hardly hit: while the run's directory is made, while a checkpoint is
# written, between two names of it, and after training.
OPERATIONS = [
    ("os.rename", "recipe.yaml"),
    ("os.rename", "epoch_0001.keras"),
    ("os.link", "last.keras"),
    ("open", "curves.png"),
]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts the command for a directory, by itself or to be killed at a file operation."""
    folder = tmp_path_factory.mktemp("command")
    (folder / "tiny.yaml").write_text(RECIPE)

    def process(directory, operation=None):
        command = ("-m", "keras_convnext") if operation is None else (KILL_AT, *operation)
        recipe = folder / "tiny.yaml"
        return quick_python.start(*command, "train", recipe, "--run-dir", directory)

    return process


def ended(process, seconds=None):
    """Waits for a process, and kills it when its time is over; returns its status and its words."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    return process.returncode, output


def curves(run):
    (path,) = run.events.iterdir()
    loaded = EventFileLoader(str(path)).Load()
    return [(e.step, v.tag, v.tensor.float_val[0]) for e in loaded for v in e.summary.value]


def assert_equal(run, expected):
    for state in ("last_model", "best_model", "best_ema_model"):
        ours, theirs = tensors(getattr(run, state)), tensors(getattr(expected, state))
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=f"{state}: {name}")
    rows, expected_rows = run.metrics(), expected.metrics()
    seconds = [row.pop("seconds") for row in rows]
    assert seconds == sorted(seconds)
    assert rows == [{k: v for k, v in row.items() if k != "seconds"} for row in expected_rows]
    assert curves(run) == curves(expected)
    assert run.results_file.read_text() == expected.results_file.read_text()
    names, expected_names = ({p.name for p in r.path.rglob("*")} for r in (run, expected))
    assert {n for n in names ^ expected_names if "tfevents" not in n} == set()


@pytest.mark.slow
# On one backend: test_every_kill.py kills a run at every file operation on each, in one process.
@pytest.mark.backend_free
def test_a_run_killed_again_and_again_ends_as_if_it_never_was(start, tmp_path):
    began = time.monotonic()
    unbroken = RunDirectory(tmp_path / "unbroken")
    status, output = ended(start(unbroken.path))
    assert status == 0, output
    whole = time.monotonic() - began

    draw = random.Random(0)
    operations = iter(OPERATIONS)
    kills, notices = 0, []
    for number in itertools.count():
        run = RunDirectory(tmp_path / f"run {number}")
        while not run.is_finished():  # a kill may come between that and the process's end
            operation = next(operations, None)
            by_the_clock = operation is None and kills < KILLS
            seconds = draw.uniform(0.2, 1) * whole if by_the_clock else None
            began = time.monotonic()
            status, output = ended(start(run.path, operation), seconds)
            assert status in (0, -9), output
            kills += status == -9
            notices.append(output)
            if operation == OPERATIONS[-1]:  # nearly whole, with what the first one compiled
                whole = min(whole, time.monotonic() - began)
        assert_equal(run, unbroken)
        if kills >= KILLS:
            break
    words = "".join(notices)
    assert "it was stopped before its first epoch had ended" in words
    assert "after epoch 1 of 4" in words and "after epoch 4 of 4" in words
