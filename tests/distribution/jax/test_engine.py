"""Training on several devices and in several processes, against one device."""

from pathlib import Path

import keras
import numpy as np
import pytest

if keras.backend.backend() != "jax":
    pytest.skip("this engine is JAX's", allow_module_level=True)

import jax_updates
from on_devices import outputs, start
from several_devices import QUICK_COMPILATION, run_tests_on

from keras_convnext.distribution.engine import ONE_DEVICE

pytestmark = pytest.mark.slow


def test_devices_of_one_process():
    run_tests_on(4, Path(__file__).with_name("four_devices.py"))


def test_training_in_two_processes_is_as_in_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", " ".join(QUICK_COMPILATION))
    result = tmp_path / "two.npz"
    processes = start(2, "data_parallel", 2, result, script=(jax_updates.__file__,))
    texts = outputs(processes)
    assert [process.returncode for process in processes] == [0, 0], "\n".join(texts)
    with np.load(result) as two:
        jax_updates.assert_same(dict(two), jax_updates.train(ONE_DEVICE))
