import math

import pytest

from keras_convnext.errors import RunError
from keras_convnext.runs.metrics import MetricsFile, Monitor

pytestmark = pytest.mark.backend_free


@pytest.fixture
def file(tmp_path):
    return tmp_path / "metrics.jsonl"


def test_a_run_without_metrics_has_no_rows(file):
    assert MetricsFile(file).rows() == []


def test_later_epochs_and_a_line_that_was_begun_are_cut_off(file):
    file.write_text('{"epoch": 1}\n{"epoch": 2, "a": 1.50}\n{"epoch": 3}\n{"ep')
    assert [row["epoch"] for row in MetricsFile(file).rows()] == [1, 2, 3]
    MetricsFile(file).cut(2)
    assert file.read_text() == '{"epoch": 1}\n{"epoch": 2, "a": 1.50}\n'
    MetricsFile(file).cut(0)
    assert MetricsFile(file).rows() == []


@pytest.mark.parametrize("text", ["", '{"epoch": 1}\n', '{"epoch": 2}\n', '{"epoch": 1}\n{"ep'])
def test_an_epoch_that_is_missing_is_not_passed_over(file, text):
    file.write_text(text)
    with pytest.raises(RunError, match=r"does not hold the 2 epochs up to .* Put the file back"):
        MetricsFile(file).cut(2)
    assert file.read_text() == text


def test_a_line_that_is_no_json_is_shown(file):
    file.write_text('{"epoch": 1}\n{"epoch" 2}\n')
    with pytest.raises(RunError, match=r'holds a line that is not JSON: .*"epoch" 2'):
        MetricsFile(file).cut(1)


@pytest.mark.parametrize(("mode", "best"), [("max", [1, 3]), ("min", [1, 2])])
def test_the_best_epoch_is_the_first_with_the_best_value(mode, best):
    rows = [{"epoch": n, "val_x": value} for n, value in enumerate([2.0, 1.0, 5.0, 5.0], 1)]
    monitor = Monitor("x", mode)
    found = [n for n in range(1, 5) if monitor.is_best(rows[:n], "val_")]
    assert found == best
    assert not monitor.is_best(rows, "val_ema_")  # which no epoch has
    assert monitor.score(rows[0], "val_ema_") == -math.inf
