"""The memory that JAX's compiler leaves behind is returned to the system."""

import keras
import pytest

from keras_convnext.kernels import select

if keras.backend.backend() != "jax":
    pytest.skip("this is about JAX's compiler", allow_module_level=True)

import jax
import jax.monitoring

from keras_convnext.kernels.jax import compiler_memory
from keras_convnext.layers import Block, DepthwiseConv2D


@pytest.fixture
def trims(monkeypatch):
    """Returns the calls of `malloc_trim`, which does nothing here."""
    calls = []
    monkeypatch.setattr(compiler_memory, "_malloc_trim", lambda: calls.append)
    listeners = []
    register = jax.monitoring.register_event_duration_secs_listener
    monkeypatch.setattr(
        jax.monitoring,
        "register_event_duration_secs_listener",
        lambda listener: (listeners.append(listener), register(listener)),
    )
    compiler_memory.trim_after_compiling.cache_clear()
    yield calls
    for listener in listeners:
        jax.monitoring.unregister_event_duration_listener(listener)
    compiler_memory.trim_after_compiling.cache_clear()


def build_layers():
    for layer in (Block(3), DepthwiseConv2D(3)):
        layer.build((None, 8, 8, 4))


def compile_something():
    return jax.jit(lambda x: x + 1).lower(1.0).compile()


def test_long_compilations_return_memory_once_a_layer_is_built(trims, monkeypatch):
    monkeypatch.setattr(compiler_memory, "MIN_SECONDS", 0.0)
    compile_something()
    assert not trims
    build_layers()  # several, and still one trim for each compilation
    trims.clear()
    compile_something()
    assert trims == [0]


def test_short_compilations_do_not(trims, monkeypatch):
    monkeypatch.setattr(compiler_memory, "MIN_SECONDS", 1000.0)
    build_layers()
    compile_something()
    assert not trims


def test_nothing_is_done_where_the_references_are_forced(trims, monkeypatch):
    monkeypatch.setenv(select.VARIABLE, "reference")
    monkeypatch.setattr(compiler_memory, "MIN_SECONDS", 0.0)
    build_layers()
    compile_something()
    assert not trims


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    assert compiler_memory._malloc_trim() is None
