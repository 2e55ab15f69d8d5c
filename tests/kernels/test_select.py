"""The rules of the selection, how it can be forced, and what it logs."""

import importlib
import inspect
import logging

import keras
import numpy as np
import pytest

import keras_convnext
from keras_convnext.kernels import reference, select
from keras_convnext.kernels.select import ANY, CPU, KERNELS, ONEDNN, Kernel, first_match

BACKEND = keras.backend.backend()


@pytest.fixture(autouse=True)
def no_selection_is_forced(monkeypatch):
    monkeypatch.delenv(select.VARIABLE, raising=False)


@pytest.fixture
def table(monkeypatch):
    """A table in which each rule tells rows apart."""
    rows = (
        Kernel("conv", "jax", "onednn", ONEDNN, ""),
        Kernel("conv", "jax", "small", CPU, "", max_kernel_size=11),
        Kernel("conv", "jax", "large", CPU, ""),
        Kernel("conv", "torch", "other", ANY, ""),
        Kernel("norm", "jax", "norm", ANY, ""),
    )
    monkeypatch.setattr(select, "KERNELS", rows)
    return {row.module: row for row in rows}


def test_the_first_row_that_fits_wins(table):
    assert first_match("conv", "jax", {ANY, CPU, ONEDNN}) is table["onednn"]
    assert first_match("conv", "jax", {ANY, CPU}) is table["small"]
    assert first_match("conv", "torch", {ANY}) is table["other"]


def test_rows_for_cpu_are_not_used_on_a_gpu(table):
    assert first_match("conv", "jax", {ANY}) is None
    assert first_match("norm", "jax", {ANY}) is table["norm"]


def test_large_kernels_skip_the_row_of_small_ones(table):
    assert first_match("conv", "jax", {ANY, CPU}, kernel_size=11) is table["small"]
    assert first_match("conv", "jax", {ANY, CPU}, kernel_size=13) is table["large"]


def test_no_row_means_the_reference(table):
    assert first_match("conv", "tensorflow", {ANY, CPU}) is None
    assert select._load("norm_mlp", None) is reference.norm_mlp


def test_without_onednn_each_operation_has_another_row():
    for row in KERNELS:
        if row.device == ONEDNN:
            other = first_match(row.operation, row.backend, {ANY, CPU}, kernel_size=7)
            assert other is not None and other.device != ONEDNN


@pytest.mark.parametrize("row", [row for row in KERNELS if row.backend == BACKEND], ids=str)
def test_each_module_has_the_operation_with_the_signature_of_the_reference(row):
    module = importlib.import_module(f"keras_convnext.kernels.{row.path}")
    signature, contract = (
        list(inspect.signature(getattr(home, row.operation)).parameters)
        for home in (module, reference)
    )
    assert signature == contract


def test_no_row_is_unreachable():
    everything = {ANY, CPU, ONEDNN}
    for row in KERNELS:
        reached = [
            first_match(row.operation, row.backend, everything - without, size)
            for without in (set(), {ONEDNN})
            for size in (7, 99)
        ]
        assert row in reached


@pytest.mark.parametrize("operation", sorted({row.operation for row in KERNELS}))
def test_the_reference_can_be_forced(operation, monkeypatch):
    monkeypatch.setenv(select.VARIABLE, "reference")
    assert select.select(operation, kernel_size=7) is getattr(reference, operation)


def test_auto_is_the_default(monkeypatch):
    selected = select.select("norm_mlp")
    assert selected is not reference.norm_mlp
    monkeypatch.setenv(select.VARIABLE, "auto")
    assert select.select("norm_mlp") is selected


def test_an_unknown_setting_is_refused(monkeypatch):
    monkeypatch.setenv(select.VARIABLE, "fastest")
    with pytest.raises(ValueError, match=r"must be 'auto' or 'reference'. Received: 'fastest'"):
        select.select("norm_mlp")


def test_a_selection_is_logged_once_with_its_reason(caplog):
    select._load.cache_clear()
    caplog.set_level(logging.INFO, "keras_convnext")
    for _ in range(3):
        select.select("norm_mlp")
    row = first_match("norm_mlp", BACKEND, select._devices(BACKEND))
    assert caplog.messages == [f"norm_mlp: {row.path} ({row.reason})"]


@pytest.mark.skipif(BACKEND != "jax", reason="JAX has listeners of compilations")
def test_a_selection_has_no_side_effect(monkeypatch):
    import jax.monitoring

    def register(listener):
        raise AssertionError("a listener was registered")

    monkeypatch.setattr(jax.monitoring, "register_event_duration_secs_listener", register)
    for row in KERNELS:
        select.select(row.operation, kernel_size=7)


def test_a_network_gives_the_same_with_and_without_kernels(toy, monkeypatch):
    images = np.random.default_rng(0).uniform(0, 255, (2, 40, 40, 3)).astype("float32")
    model = keras_convnext.ConvNeXt(**toy, input_shape=(40, 40, 3), classes=3)
    fast = model.predict_on_batch(images)
    monkeypatch.setenv(select.VARIABLE, "reference")
    plain = keras_convnext.ConvNeXt(**toy, input_shape=(40, 40, 3), classes=3)
    plain.set_weights(model.get_weights())
    np.testing.assert_allclose(fast, plain.predict_on_batch(images), rtol=1e-5, atol=1e-6)
