import builtins

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_convnext.errors import MissingPackage
from keras_convnext.runs import tensorboard
from keras_convnext.runs.tensorboard import EventFile

pytestmark = pytest.mark.backend_free

ROWS = [{"epoch": n, "seconds": 10.0 * n, "loss": 1 / n, "val_loss": 2 / n} for n in (1, 2, 3)]


def read(directory):
    """Returns the curves as TensorBoard itself reads them."""
    accumulator = EventAccumulator(str(directory))
    accumulator.Reload()
    return {
        tag: [(event.step, event.wall_time, event.value) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
    }


def steps_and_values(directory):
    return {
        tag: [(step, pytest.approx(value)) for step, _, value in events]
        for tag, events in read(directory).items()
    }


EXPECTED = {
    "loss": [(1, 1.0), (2, 0.5), (3, 1 / 3)],
    "val_loss": [(1, 2.0), (2, 1.0), (3, 2 / 3)],
}


def test_every_column_is_a_curve_over_the_epochs(tmp_path):
    file = EventFile(tmp_path / "tensorboard")
    file.begin([])
    for row in ROWS:
        file.append(row)
    assert steps_and_values(file.path.parent) == EXPECTED
    times = [time for _, time, _ in read(file.path.parent)["loss"]]
    assert [time - times[0] for time in times] == pytest.approx([0, 10, 20])


def test_columns_that_are_no_numbers_have_no_curve(tmp_path):
    file = EventFile(tmp_path)
    others = {"f1": [0.5, 0.25], "words": "few", "nothing": None}
    file.begin([{**ROWS[0], **others}])
    for row in ROWS[1:]:
        file.append({**row, **others})
    assert steps_and_values(tmp_path) == EXPECTED


def test_no_event_is_lost_or_doubled_when_a_run_resumes(tmp_path, monkeypatch):
    first = EventFile(tmp_path)
    first.begin([])
    for row in ROWS:  # the third epoch was not finished
        first.append(row)
    monkeypatch.setattr(tensorboard.os, "getpid", lambda: 0)
    second = EventFile(tmp_path)
    second.begin(ROWS[:2])
    assert list(tmp_path.iterdir()) == [second.path] and second.path != first.path
    second.append(ROWS[2])
    assert steps_and_values(tmp_path) == EXPECTED


def test_without_tensorboard_the_extra_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def no_tensorboard(name, *arguments):
        if name.startswith("tensorboard"):
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", no_tensorboard)
    with pytest.raises(MissingPackage, match=r"tensorboard, .*is not installed: .*\[train\]"):
        EventFile(tmp_path)
