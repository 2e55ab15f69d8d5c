"""Optimizers in a user's own script, under TensorFlow's MirroredStrategy."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow", reason="a strategy of TensorFlow's"
    ),
]
TRAIN = Path(__file__).parents[1] / "helpers" / "tensorflow_devices.py"
EMA = {"use_ema": True, "ema_momentum": 0.9}
TWO_STEPS = {"gradient_accumulation_steps": 2}
CASES = {
    "everything": [[2, 4], {"kind": "AdamW", "global_clipnorm": 0.3, **EMA, **TWO_STEPS}],
    "LAMB": [[2], {"kind": "LAMB", "clipnorm": 0.1, **TWO_STEPS}],
    "EMA as weights": [[2], {"kind": "SGD", "ema_overwrite_frequency": 3, "clipvalue": 0.1, **EMA}],
    # The loss scale overflows at first.
    "float16": [[2], {"kind": "AdamW", "policy": "mixed_float16", **TWO_STEPS}],
    "bfloat16": [[2], {"kind": "SGD", "policy": "mixed_bfloat16", "global_clipnorm": 0.3}],
}


@pytest.fixture(scope="module")
def differences():
    """The largest difference from one device of the losses, the weights and all other state."""
    command = [sys.executable, str(TRAIN), json.dumps(list(CASES.values()))]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()[-len(CASES) :]
    return dict(zip(CASES, map(json.loads, lines), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_several_devices_train_as_one_does(case, differences):
    largest = max(differences[case])
    assert largest < (2e-3 if "float16" in case else 1e-5), differences[case]
