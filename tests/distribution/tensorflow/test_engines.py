"""Runs on several devices and in several processes are the run on one device."""

import json
import socket
from pathlib import Path

import keras
import numpy as np
import pytest
import quick_python

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="engines of TensorFlow"
)
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


def free_ports(count):
    with socket.create_server(("", 0)) as first, socket.create_server(("", 0)) as second:
        return [x.getsockname()[1] for x in (first, second)][:count]


@pytest.fixture(scope="module")
def devices(tmp_path_factory):
    return result(start(tmp_path_factory.mktemp("devices")))


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    started = []
    for rank in range(2):
        task = {"type": "worker", "index": rank}
        config = json.dumps({"cluster": {"worker": addresses}, "task": task})
        directory = tmp_path_factory.mktemp(f"process{rank}")
        started.append(start(directory, TF_CONFIG=config))
    try:
        return [result(process) for process in started]
    finally:
        for process in started:
            process.kill()


def test_devices_train_as_one_does(devices):
    for part in ("logs", "state"):
        np.testing.assert_allclose(devices["4"][part], devices["1"][part], rtol=0, atol=1e-5)


def test_every_image_is_evaluated_once(devices):
    np.testing.assert_allclose(
        devices["4"]["evaluations"], devices["1"]["evaluations"], rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("order", ["2 then 1", "1 then 2"])
def test_a_checkpoint_within_an_update_continues_on_other_devices(devices, order):
    np.testing.assert_allclose(devices[order], devices["1 on"], rtol=0, atol=1e-5)


def test_processes_train_as_one_device_does(devices, processes):
    for own in processes:
        assert own["is"] == "2 CPU devices in 2 processes"
        for part in ("logs", "state", "evaluations"):
            np.testing.assert_allclose(own[part], devices["1"][part], rtol=0, atol=1e-5)
