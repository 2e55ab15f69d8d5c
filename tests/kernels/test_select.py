"""Which kernel is taken where, and how that is forced and told."""

import logging

import keras
import numpy as np
import pytest

import keras_convnext
from keras_convnext.kernels import select

BACKEND = keras.backend.backend()
TAKEN = {
    "tensorflow": {
        "adamw": "tensorflow.adamw",
        "depthwise_conv2d": "tensorflow.depthwise_conv2d",
        "norm_mlp": "tensorflow.norm_mlp",
        "layer_norm": "tensorflow.layer_norm",
        "patch_conv2d": "tensorflow.patch_conv2d",
    },
    "jax": {
        "norm_mlp": "jax.onednn.norm_mlp",
        "depthwise_conv2d": "jax.onednn.depthwise_conv2d",
        "layer_norm": "jax.layer_norm",
        "patch_conv2d": "jax.onednn.patch_conv2d",
    },
    "torch": {
        "adamw": "torch.adamw",
        "norm_mlp": "torch.norm_mlp",
        "depthwise_conv2d": "torch.depthwise_conv2d",
        "layer_norm": "torch.layer_norm",
        "patch_conv2d": "torch.patch_conv2d",
    },
}[BACKEND]


@pytest.fixture(autouse=True)
def nothing_is_chosen_yet(monkeypatch):
    monkeypatch.delenv(select.VARIABLE, raising=False)
    monkeypatch.setattr(select, "_jax_has_onednn", lambda: True)
    select._load.cache_clear()
    yield
    select._load.cache_clear()


def reference():
    """Stands for an operation's reference."""


@pytest.mark.parametrize("operation", sorted({row.operation for row in select.KERNELS}))
def test_each_backend_takes_its_own_kernels_on_a_processor(operation, monkeypatch):
    monkeypatch.setattr(select, "_device_is_cpu", lambda backend: True)
    chosen = select.fastest(operation, reference, kernel_size=7)
    if operation in TAKEN:
        assert chosen.__module__ == f"keras_convnext.kernels.{TAKEN[operation]}"
    else:
        assert chosen is reference


def test_kernels_for_processors_are_not_taken_on_a_gpu(monkeypatch):
    monkeypatch.setattr(select, "_device_is_cpu", lambda backend: False)
    for row in select.KERNELS:
        if row.backend == BACKEND:
            chosen = select.fastest(row.operation, reference, kernel_size=7)
            is_taken = chosen.__module__ == f"keras_convnext.kernels.{row.module}"
            assert is_taken != row.on_cpu_only


@pytest.mark.skipif(BACKEND != "jax", reason="oneDNN's calls are JAX's")
@pytest.mark.parametrize("operation", ["depthwise_conv2d", "norm_mlp", "patch_conv2d"])
def test_without_onednn_xla_does_the_work(operation, monkeypatch):
    monkeypatch.setattr(select, "_jax_has_onednn", lambda: False)
    chosen = select.fastest(operation, reference, kernel_size=7)
    assert chosen.__module__ == f"keras_convnext.kernels.jax.{operation}"


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX's kernel is unrolled")
def test_large_convolutions_are_left_to_the_reference(monkeypatch):
    monkeypatch.setattr(select, "_jax_has_onednn", lambda: False)
    assert select.fastest("depthwise_conv2d", reference, kernel_size=11) is not reference
    assert select.fastest("depthwise_conv2d", reference, kernel_size=13) is reference


def test_the_reference_can_be_forced(monkeypatch):
    monkeypatch.setenv(select.VARIABLE, "reference")
    for row in select.KERNELS:
        assert select.fastest(row.operation, reference, kernel_size=7) is reference


def test_auto_is_the_default(monkeypatch):
    chosen = select.fastest("norm_mlp", reference)
    monkeypatch.setenv(select.VARIABLE, "auto")
    assert select.fastest("norm_mlp", reference) is chosen


def test_an_unknown_setting_is_refused(monkeypatch):
    monkeypatch.setenv(select.VARIABLE, "fastest")
    with pytest.raises(ValueError, match=r"must be 'auto' or 'reference'. Received: 'fastest'"):
        select.fastest("norm_mlp", reference)


def test_the_choice_is_logged_once_with_its_reason(caplog):
    caplog.set_level(logging.INFO, "keras_convnext")
    for _ in range(3):
        select.fastest("norm_mlp", reference)
    row = next(
        row for row in select.KERNELS if (row.operation, row.backend) == ("norm_mlp", BACKEND)
    )
    assert caplog.messages == [f"norm_mlp: {row.module} ({row.reason})"]


def test_a_network_gives_the_same_with_and_without_kernels(toy, monkeypatch):
    images = np.random.default_rng(0).uniform(0, 255, (2, 40, 40, 3)).astype("float32")
    model = keras_convnext.ConvNeXt(**toy, input_shape=(40, 40, 3), classes=3)
    fast = model.predict_on_batch(images)
    monkeypatch.setenv(select.VARIABLE, "reference")
    plain = keras_convnext.ConvNeXt(**toy, input_shape=(40, 40, 3), classes=3)
    plain.set_weights(model.get_weights())
    np.testing.assert_allclose(fast, plain.predict_on_batch(images), rtol=1e-5, atol=1e-6)
