"""What JAX's compiler leaves behind is given back."""

import keras
import pytest

from keras_convnext.kernels import select

if keras.backend.backend() != "jax":
    pytest.skip("this is about JAX's compiler", allow_module_level=True)

import jax
import jax.monitoring

from keras_convnext.kernels.jax import compiler_memory


@pytest.fixture
def trims(monkeypatch):
    """Returns the calls of `malloc_trim`, which does nothing here."""
    calls = []
    monkeypatch.setattr(compiler_memory, "_trim", lambda: calls.append)
    listeners = []
    register = jax.monitoring.register_event_duration_secs_listener
    monkeypatch.setattr(
        jax.monitoring,
        "register_event_duration_secs_listener",
        lambda listener: (listeners.append(listener), register(listener)),
    )
    for function in (select._load, compiler_memory.give_back_after_compiling):
        function.cache_clear()
    yield calls
    for listener in listeners:
        jax.monitoring.unregister_event_duration_listener(listener)
    for function in (select._load, compiler_memory.give_back_after_compiling):
        function.cache_clear()


def compile_something():
    return jax.jit(lambda x: x + 1).lower(1.0).compile()


def test_long_compilations_give_memory_back_once_a_kernel_is_chosen(trims, monkeypatch):
    monkeypatch.setattr(compiler_memory, "LEAST_SECONDS", 0.0)
    compile_something()
    assert not trims
    for operation in ("norm_mlp", "layer_norm"):  # two, and it is called once for each compilation
        select.fastest(operation, None)
    compile_something()
    assert trims == [0]


def test_short_compilations_do_not(trims, monkeypatch):
    monkeypatch.setattr(compiler_memory, "LEAST_SECONDS", 1000.0)
    select.fastest("norm_mlp", None)
    compile_something()
    assert not trims


def test_nothing_is_done_where_only_references_are_asked_for(trims, monkeypatch):
    monkeypatch.setenv(select.VARIABLE, "reference")
    monkeypatch.setattr(compiler_memory, "LEAST_SECONDS", 0.0)
    select.fastest("norm_mlp", None)
    compile_something()
    assert not trims


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    assert compiler_memory._trim() is None
