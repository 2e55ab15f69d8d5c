"""The engine on devices of one process. Run by `test_engine.py` with four devices."""

import jax_updates
import keras
import numpy as np
import pytest

from keras_convnext.distribution.engine import ONE_DEVICE
from keras_convnext.distribution.jax.engine import make_engine
from keras_convnext.errors import UserError

SETTINGS = {
    "two": ("data_parallel", 2),
    "four": ("data_parallel", 4),
    "model": ("model_parallel", 4, 2),
}


@pytest.fixture(scope="module")
def on_one_device():
    return jax_updates.train(ONE_DEVICE)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_training_is_as_on_one_device(settings, on_one_device):
    jax_updates.assert_same(jax_updates.train(make_engine(*settings)), on_one_device)


def test_wide_kernels_are_spread_over_the_devices_of_a_model():
    with make_engine("model_parallel", 4, 2).scope():
        model = jax_updates.network()
    kernels = {v.path: v.value for v in model.variables if "pointwise" in v.path}
    for path, kernel in kernels.items():
        if path.endswith("kernel"):
            assert 2 * kernel.addressable_data(0).size == kernel.size, path
    assert sum("kernel" in path for path in kernels) == 4


@pytest.mark.parametrize("images", [10, 3])
def test_keras_predicts_any_number_of_images(images):
    engine = make_engine("data_parallel")
    x = np.random.default_rng(0).normal(size=(images, 16, 16, 3)).astype("float32")
    expected = jax_updates.network().predict(x, batch_size=8, verbose=0)
    with engine.scope():
        model = jax_updates.network()
        np.testing.assert_allclose(model.predict(x, batch_size=8, verbose=0), expected, atol=1e-5)


def test_the_scope_restores_what_was_before():
    engine = make_engine("data_parallel")
    with pytest.raises(RuntimeError, match="stop"), engine.scope():
        assert keras.distribution.distribution() is engine.distribution
        raise RuntimeError("stop")
    assert keras.distribution.distribution() is None


def test_says_what_it_runs_on():
    assert make_engine("data_parallel").describe() == "4 CPU devices"
    engine = make_engine("model_parallel", 4, 2)
    assert engine.describe() == "4 CPU devices, 2 for each model"
    assert (engine.devices, engine.data_shards) == (4, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("data_parallel", 5), "asks for 5 devices, 5 in each process, but JAX finds only 4"),
        (("model_parallel", 4, 3), "must divide the number of devices, 4"),
        (("mirrored",), "must be 'data_parallel' or 'model_parallel'"),
    ],
)
def test_what_is_not_there_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        make_engine(*arguments)


def test_a_process_on_its_own_exchanges_values_with_itself():
    engine = make_engine("data_parallel")
    assert engine.gather("a") == ["a"]
    assert engine.broadcast("a") == "a"
    assert engine.processes == 1
