"""What processes do together, and what happens to the others when one ends."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.backend_free

SCRIPT = Path(__file__).parents[1] / "helpers" / "file_engine.py"
ENDED = "has ended before the run was complete"


def run(directory, action):
    """Returns the exit statuses and the error streams of three processes, and the seconds."""
    started = time.monotonic()
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, directory, str(rank), "3", action],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(3)
    ]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    return [process.returncode for process in processes], errors, time.monotonic() - started


def test_processes_that_agree_end_well(tmp_path):
    statuses, errors, _ = run(tmp_path, "agreed")
    assert statuses == [0, 0, 0], errors


@pytest.mark.parametrize(
    ("action", "statuses", "told"),
    [
        ("killed", [1, -9, 1], {0: "Process 1", 2: "Another process"}),
        ("main_killed", [-9, 1, 1], {1: "Process 0", 2: "Process 0"}),
        ("failed", [1, 1, 1], {0: "Process 2", 1: "Another process"}),
        ("interrupted", [-2, 1, 1], {1: "Another process", 2: "Another process"}),
    ],
)
def test_the_others_end_with_one_that_ends(tmp_path, action, statuses, told):
    ended, errors, seconds = run(tmp_path, action)
    assert ended == statuses, errors
    for rank, who in told.items():
        assert errors[rank].startswith(f"{who} of this run {ENDED}"), errors[rank]
    assert seconds < 40


def test_an_error_that_another_process_has_caused_is_told_as_such(tmp_path):
    statuses, errors, seconds = run(tmp_path, "broken_by_another")
    assert statuses == [1, -9, 1]
    assert errors[0].startswith(f"Process 1 of this run {ENDED}")
    for rank in (0, 2):
        assert "shared: " in errors[rank] and "Traceback" not in errors[rank]
    assert seconds < 40


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("refused_by_main", "The main process refuses."),
        ("refused_by_another", "In process 2 of 3: There are no images."),
        ("different", "The processes do not have the same recipe:\n  epochs: 5 in process 0, 6 in"),
    ],
)
def test_an_error_ends_all_and_is_reported_once(tmp_path, action, message):
    statuses, errors, _ = run(tmp_path, action)
    assert statuses == [1, 1, 1]
    for error, prefix in zip(errors, ("reported", "shared", "shared"), strict=True):
        assert error.startswith(f"{prefix}: {message}"), error
        assert ENDED not in error
