"""On JAX a kernel's tests run twice: with oneDNN's operations, and with XLA's alone."""

import keras
import pytest

from keras_convnext.kernels import select

BACKEND = keras.backend.backend()


@pytest.fixture(params=["oneDNN", "XLA"] if BACKEND == "jax" else [BACKEND])
def products_by(request, monkeypatch):
    """Says who computes products and convolutions."""
    if request.param == "oneDNN":
        from keras_convnext.kernels.jax.onednn.support import has_onednn

        if not has_onednn():
            pytest.skip("this jaxlib or processor is none that oneDNN was tried with")
    if request.param == "XLA":
        monkeypatch.setattr(select, "_jax_has_onednn", lambda: False)
    select._load.cache_clear()
    yield request.param
    select._load.cache_clear()
