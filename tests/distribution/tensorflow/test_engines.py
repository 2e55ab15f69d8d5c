"""Runs on several devices and in several processes are the run on one device."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import quick_python
from local_processes import environments

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="engines of TensorFlow"),
]
SCRIPT = Path(__file__).parents[2] / "helpers" / "tensorflow_engines.py"


def start(directory, **environment):
    return quick_python.start(SCRIPT, directory, environment=environment, stderr_apart=True)


def result(process):
    try:
        output, errors = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    return json.loads(output.splitlines()[-1])


@pytest.fixture(scope="module")
def devices(tmp_path_factory):
    return result(start(tmp_path_factory.mktemp("devices")))


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    started = [
        start(tmp_path_factory.mktemp("process"), **variables)
        for variables in environments("tensorflow", 2)
    ]
    try:
        return [result(process) for process in started]
    finally:
        for process in started:
            process.kill()


@pytest.mark.parametrize("count", ["2", "4"])
def test_devices_train_as_one_does(devices, count):
    for part in ("logs", "state"):
        np.testing.assert_allclose(devices[count][part], devices["1"][part], rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", ["2", "4"])
def test_every_image_is_evaluated_once(devices, count):
    np.testing.assert_allclose(
        devices[count]["evaluations"], devices["1"]["evaluations"], rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("order", ["2 then 1", "1 then 2"])
def test_a_checkpoint_within_an_update_continues_on_other_devices(devices, order):
    np.testing.assert_allclose(devices[order], devices["1 on"], rtol=0, atol=1e-5)


def test_processes_train_as_one_device_does(devices, processes):
    for own in processes:
        assert own["is"] == "2 CPU devices in 2 processes"
        for part in ("logs", "state", "evaluations"):
            np.testing.assert_allclose(own[part], devices["1"][part], rtol=0, atol=1e-5)
