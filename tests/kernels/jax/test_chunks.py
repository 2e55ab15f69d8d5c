"""Kernels that work in parts of the batch, which the small shapes of other tests would not need."""

import functools
import importlib

import keras
import numpy as np
import pytest
from gradients import compare_values_with_reference, compare_with_reference, random_tensors

from keras_convnext import kernels
from keras_convnext.layers import Block

BACKEND = keras.backend.backend()
only_jax = pytest.mark.skipif(BACKEND != "jax", reason="these are JAX's kernels")
FLOAT = 4  # bytes


def module(name):
    return importlib.import_module(f"{kernels.__name__}.{name}")


@pytest.fixture
def cache_of(monkeypatch):
    """Returns a function that changes what JAX's kernels take for the size of the cache."""
    import jax

    def change(size):
        jax.clear_caches()
        monkeypatch.setattr(module("jax.chunks"), "BYTES_IN_THE_CACHE", size)

    yield change
    jax.clear_caches()


@only_jax
@pytest.mark.parametrize(
    ("count", "fitting", "at_least", "taken"),
    [
        (6, 6, 1, 6),
        (6, 100, 1, 6),
        (6, 5, 1, 3),
        (6, 0, 1, 1),
        (7, 3, 1, 1),
        (12, 2, 4, 4),
        (7 * 11, 10, 1, 7),
        (7 * 11, 6, 1, 77),  # a part of one would be too small, and none is between
    ],
)
def test_parts_leave_no_remainder_and_come_near_to_the_cache(
    cache_of, count, fitting, at_least, taken
):
    cache_of(fitting * 100)
    assert module("jax.chunks").count_in_the_cache(count, 100, at_least) == taken


@only_jax
@pytest.mark.parametrize("images_that_fit", [0, 3, 4, 6])
def test_a_convolutions_gradients_are_added_up_over_the_parts(cache_of, images_that_fit):
    cache_of(images_that_fit * 5 * 4 * 2 * FLOAT)
    images = (6, 5, 4, 2)
    compare_with_reference(
        module("jax.depthwise_conv2d").depthwise_conv2d,
        module("depthwise_conv2d").reference,
        [images, (3, 3, 2, 1), (2,), images],
        "float32",
        1e-5,
    )


# 42 rows; no fewer are taken at a time than twice the 7 hidden units.
@only_jax
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("rows_that_fit", [0, 41])
def test_dense_layers_gradients_are_added_up_over_the_parts(
    cache_of, rows_that_fit, dtype, tolerance
):
    cache_of(rows_that_fit * 7 * FLOAT)
    kernel = functools.partial(module("jax.norm_mlp").norm_mlp, epsilon=EPSILON)
    compare_with_reference(kernel, dense_reference(), DENSE, dtype, tolerance)
    compare_values_with_reference(kernel, dense_reference(), DENSE[:-1], dtype, tolerance)


@only_jax
def test_a_batch_whose_size_is_open_is_taken_whole():
    import jax
    from jax import export

    block = Block(3)
    block.build((None, 5, 4, 3))
    of_any_size = jax.ShapeDtypeStruct(export.symbolic_shape("batch, 5, 4, 3"), "float32")
    exported = export.export(jax.jit(block))(of_any_size)
    (images,) = random_tensors([(6, 5, 4, 3)])
    np.testing.assert_allclose(exported.call(images), block(images), atol=1e-6)


@pytest.mark.skipif(BACKEND != "torch", reason="this is PyTorch's kernel")
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("rows_that_fit", [1, 5, 41, 42, 1000])
@pytest.mark.parametrize("keeps", [False, True])
def test_dense_layers_parts_are_put_together(monkeypatch, keeps, rows_that_fit, dtype, tolerance):
    kernel = module("torch.norm_mlp")
    monkeypatch.setattr(kernel, "BYTES_OF_HIDDEN_UNITS", rows_that_fit * 7 * FLOAT)
    monkeypatch.setattr(kernel, "keeps_unscaled", lambda rows, hidden: keeps)
    forward = functools.partial(kernel.norm_mlp, epsilon=EPSILON)
    compare_values_with_reference(forward, dense_reference(), DENSE[:-1], dtype, tolerance)
    training = functools.partial(forward, training=True)
    compare_with_reference(training, dense_reference(), DENSE, dtype, tolerance)


def dense_reference():
    return functools.partial(module("norm_mlp").reference, epsilon=EPSILON)


EPSILON = 1e-6
# Inputs, LayerNorm's and both layers' weights, layer scale, and the result.
DENSE = [(2, 3, 7, 5), (5,), (5,), (5, 7), (7,), (7, 5), (5,), (5,), (2, 3, 7, 5)]
