"""A run of the command line has the same results on any number of devices."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from model_files import tensors
from on_devices import run as run_on

from keras_convnext import RunDirectory, load_recipe, train

pytestmark = pytest.mark.slow

KILL_AT = Path(__file__).parents[1] / "helpers" / "kill_at.py"


@pytest.fixture(scope="module")
def recipe(recipe_of):
    return recipe_of(4)


@pytest.fixture(scope="module")
def on_one_device(recipe, tmp_path_factory):
    run, _ = train(load_recipe(recipe), tmp_path_factory.mktemp("one") / "run")
    return run


@pytest.fixture(scope="module")
def stopped_on_two(recipe, tmp_path_factory):
    """A run on two devices that was killed while it wrote the checkpoint of its second epoch."""
    path = tmp_path_factory.mktemp("two") / "run"
    kill = (KILL_AT, "os.rename", "epoch_0002.keras")
    statuses, output = run_on(2, "train", recipe, "--run-dir", path, script=kill)
    assert all(statuses), output
    assert "480 images on each device" not in output and "120 images on each device" in output
    assert RunDirectory(path).metrics(), output
    return path, output


def assert_equal(run, expected):
    """Compares metrics, weights and optimizer state with those of the run on one device."""
    assert len(run.metrics()) == len(expected.metrics())
    for row, expected_row in zip(run.metrics(), expected.metrics(), strict=True):
        assert row.keys() == expected_row.keys()
        for name in row.keys() - {"seconds"}:
            np.testing.assert_allclose(row[name], expected_row[name], rtol=1e-5, err_msg=name)
    for state in ("last_model", "best_ema_model"):
        ours, theirs = tensors(getattr(run, state)), tensors(getattr(expected, state))
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_allclose(
                ours[name], theirs[name], rtol=1e-4, atol=1e-5, err_msg=f"{state}: {name}"
            )


def test_a_run_stopped_on_two_devices_resumes_on_one(
    recipe, on_one_device, stopped_on_two, tmp_path
):
    path = shutil.copytree(stopped_on_two[0], tmp_path / "run")
    run, _ = train(load_recipe(recipe), path)
    assert_equal(run, on_one_device)


def test_a_run_stopped_on_two_devices_resumes_on_four(
    recipe, on_one_device, stopped_on_two, tmp_path
):
    path = shutil.copytree(stopped_on_two[0], tmp_path / "run")
    statuses, output = run_on(4, "train", recipe, "--run-dir", path)
    assert not any(statuses), output
    assert "after epoch 1 of 4" in output and output.count("60 images on each device") == 1
    assert_equal(RunDirectory(path), on_one_device)
    assert RunDirectory(path).read(RunDirectory(path).plan_file)["devices"] == 4
