"""JAX's kernels with several chunks, which the small shapes of other tests do not need."""

import keras
import numpy as np
import pytest

if keras.backend.backend() != "jax":
    pytest.skip("these are JAX's kernels", allow_module_level=True)

import jax
from gradients import compare_values_with_reference, compare_with_reference, random_tensors
from jax import export

from keras_convnext.kernels import reference
from keras_convnext.kernels.jax import chunks, convolution, norm_mlp
from keras_convnext.kernels.reference import BlockParams
from keras_convnext.layers import Block

FLOAT = 4  # bytes
EPSILON = 1e-6
# Inputs, LayerNorm's and both layers' weights, layer scale, and the result.
DENSE = [(2, 3, 7, 5), (5,), (5,), (5, 7), (7,), (7, 5), (5,), (5,), (2, 3, 7, 5)]


@pytest.fixture
def set_cache_size(monkeypatch):
    """Returns a function that sets the cache size that the kernels assume."""

    def change(size):
        jax.clear_caches()
        monkeypatch.setattr(chunks, "CACHE_BYTES", size)

    yield change
    jax.clear_caches()


@pytest.mark.parametrize(
    ("count", "fitting", "minimum", "size"),
    [
        (6, 6, 1, 6),
        (6, 100, 1, 6),
        (6, 5, 1, 3),
        (6, 0, 1, 1),
        (7, 3, 1, 1),
        (12, 2, 4, 4),
        (7 * 11, 10, 1, 7),
        (7 * 11, 6, 1, 77),  # chunks of one are too small, and there is no divisor in between
    ],
)
def test_chunks_divide_the_whole_and_come_close_to_the_cache(
    set_cache_size, count, fitting, minimum, size
):
    set_cache_size(fitting * 100)
    assert chunks.chunk_size(count, 100, minimum) == size


@pytest.mark.parametrize("images_that_fit", [0, 3, 4, 6])
def test_gradients_of_a_convolution_are_summed_over_the_chunks(set_cache_size, images_that_fit):
    set_cache_size(images_that_fit * 5 * 4 * 2 * FLOAT)
    images = (6, 5, 4, 2)
    compare_with_reference(
        convolution.depthwise_conv2d,
        reference.depthwise_conv2d,
        [images, (3, 3, 2, 1), (2,), images],
        "float32",
        1e-5,
    )


def of_tensors(kernel):
    return lambda inputs, *weights: kernel(inputs, BlockParams(*weights), EPSILON)


# 42 rows, of which a chunk has at least twice as many as the 7 hidden units.
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("rows_that_fit", [0, 41])
def test_gradients_of_dense_layers_are_summed_over_the_chunks(
    set_cache_size, rows_that_fit, dtype, tolerance
):
    set_cache_size(rows_that_fit * 7 * FLOAT)
    kernel, truth = of_tensors(norm_mlp.norm_mlp), of_tensors(reference.norm_mlp)
    compare_with_reference(kernel, truth, DENSE, dtype, tolerance)
    compare_values_with_reference(kernel, truth, DENSE[:-1], dtype, tolerance)


def test_a_batch_of_symbolic_size_is_one_chunk():
    block = Block(3)
    block.build((None, 5, 4, 3))
    of_any_size = jax.ShapeDtypeStruct(export.symbolic_shape("batch, 5, 4, 3"), "float32")
    exported = export.export(jax.jit(block))(of_any_size)
    (images,) = random_tensors([(6, 5, 4, 3)])
    np.testing.assert_allclose(exported.call(images), block(images), atol=1e-6)
