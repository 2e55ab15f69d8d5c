"""What the tests of models share."""

import keras
import numpy as np
import pytest


@pytest.fixture
def small():
    """Two stages of 3x3 kernels: for what does not depend on the size, JAX compiles it quickly."""
    return {"depths": (1, 1), "dims": (4, 8), "kernel_size": 3, "layer_scale_init_value": 0.5}


@pytest.fixture
def no_weights():
    """In the test, weights have a shape but no values: quick, and XLarge would take 1.4 GB."""
    with keras.StatelessScope(initialize_variables=False):
        yield
    keras.utils.clear_session(free_memory=False)  # or the next scope would make up for it


@pytest.fixture
def images():
    """Returns a function that makes images of a shape, with values from 0 to 255."""
    random = np.random.default_rng(0)
    return lambda *shape: random.uniform(0, 255, shape).astype("float32")


@pytest.fixture
def dtype_policy(request):
    """The dtype policy of the test's parameter, and afterwards the one before."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.fixture
def channels_first():
    """Keras configured channels first; the test may change it, afterwards it is as before."""
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format(before)
