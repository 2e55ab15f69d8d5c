"""Kernels on several devices: `four_devices.py` holds the tests."""

from pathlib import Path

import keras
import pytest
from several_devices import run_tests_on

if keras.backend.backend() != "jax":
    pytest.skip("JAX splits its kernels itself", allow_module_level=True)

pytestmark = pytest.mark.slow


def test_kernels_on_four_devices():
    run_tests_on(4, Path(__file__).with_name("four_devices.py"))
