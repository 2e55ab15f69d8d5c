"""What happens to a run of several processes when one differs from the others, or is killed."""

import itertools
import os
import random
import time
from pathlib import Path

import numpy as np
import pytest
from on_devices import start

from keras_convnext import RunDirectory, load_recipe, train

DISAGREEING = Path(__file__).parents[1] / "helpers" / "disagreeing.py"
# The first kill comes after an epoch or two, and so does each further one, or before.
KILLS = int(os.environ.get("KERAS_CONVNEXT_TEST_KILLS", "1"))


@pytest.fixture
def recipe(recipe_of):
    return recipe_of(8 * KILLS)


def outputs(processes, seconds=300):
    """Waits for all processes; returns the seconds, and what each printed."""
    started = time.monotonic()
    printed = [process.communicate(timeout=seconds)[0] for process in processes]
    return time.monotonic() - started, printed


def test_processes_that_differ_are_refused(recipe):
    _, printed = outputs(start(2, recipe, script=(DISAGREEING,)))
    for output, name in zip(printed, ("UserError", "SharedError"), strict=True):
        assert f"{name}: The processes do not have the same recipe:\n  runtime.seed: 0" in output
        assert f"{name}: The processes do not have the same packages:\n  numpy: " in output
        assert f"{name}: The processes do not have the same data:\n  training images: 5" in output
        assert "nothing differs" not in output


@pytest.mark.slow
def test_a_run_ends_when_a_process_is_killed_and_resumes(recipe, tmp_path, monkeypatch):
    # A process that is killed before all have started is taken for one that starts late.
    monkeypatch.setenv("KERAS_CONVNEXT_START_TIMEOUT", "40")
    run, draw = RunDirectory(tmp_path / "run"), random.Random(0)
    for kill in itertools.count():
        processes = start(2, "train", recipe, "--run-dir", run.path)
        if kill < KILLS:
            _wait(processes, run, _epochs(run) + draw.randint(0 if kill else 1, 2))
            time.sleep(draw.uniform(0, 2))
            victim, other = draw.sample(processes, 2)
            victim.kill()
            seconds, printed = outputs([other], 60)
            victim.communicate()
            assert other.returncode != 0 or run.is_finished(), printed
            assert kill or "of this run has ended before the run was complete" in printed[0], (
                printed[0]
            )
            print(f"killed after epoch {_epochs(run)}; the other ended after {seconds:.1f} s")
        else:
            _, printed = outputs(processes)
            assert [process.returncode for process in processes] == [0, 0], printed
            break
    assert "Resuming" in printed[0]
    whole = _uninterrupted(recipe, tmp_path / "whole")
    for row, expected in zip(run.metrics(), whole.metrics(), strict=True):
        for name in row.keys() - {"seconds"}:
            np.testing.assert_allclose(row[name], expected[name], rtol=1e-4, err_msg=name)


def _uninterrupted(recipe, directory):
    """Returns a run on one device or, of many epochs, in which rounding grows, of two processes."""
    if KILLS == 1:
        return train(load_recipe(recipe), directory)[0]
    _, printed = outputs(start(2, "train", recipe, "--run-dir", directory), 600)
    assert RunDirectory(directory).is_finished(), printed
    return RunDirectory(directory)


def _epochs(run):
    return len(run.metrics()) if run.metrics_file.is_file() else 0


def _wait(processes, run, epochs):
    """Waits until a run has completed that many epochs."""
    deadline = time.monotonic() + 120
    while _epochs(run) < epochs and all(process.poll() is None for process in processes):
        assert time.monotonic() < deadline
        time.sleep(0.05)
