"""On JAX the kernels' tests run twice: with oneDNN's operations, and with XLA's alone."""

import keras
import pytest

from keras_convnext.kernels import select

BACKEND = keras.backend.backend()


@pytest.fixture(autouse=True)
def optimized():
    """Compiles with all of XLA's optimizations, which `make test` leaves out elsewhere."""
    if BACKEND != "jax":
        yield
        return
    import jax

    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(params=["oneDNN", "XLA"] if BACKEND == "jax" else [BACKEND])
def matmuls_by(request, monkeypatch):
    """Says which library computes matmuls and convolutions."""
    if request.param == "oneDNN":
        from keras_convnext.kernels.jax.onednn.support import has_onednn

        if not has_onednn():
            pytest.skip("this jaxlib or CPU was not tested with oneDNN")
    if request.param == "XLA":
        devices = select._devices(BACKEND) - {select.ONEDNN}
        monkeypatch.setattr(select, "_devices", lambda backend: devices)
    return request.param
