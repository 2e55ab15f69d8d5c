"""XLA's calls of oneDNN: what they take, and what must not meet them."""

import keras
import numpy as np
import pytest

if keras.backend.backend() != "jax":
    pytest.skip("oneDNN's calls are JAX's", allow_module_level=True)

import jax
import jax.numpy as jnp
from gradients import largest_relative_error, random_tensors
from jax import export

from keras_convnext.kernels.jax.onednn import calls, support
from keras_convnext.kernels.jax.onednn.support import is_supported
from keras_convnext.layers import Block

pytestmark = pytest.mark.skipif(
    not support.has_onednn(),
    reason="this jaxlib or CPU was not tested with oneDNN",
)


@pytest.fixture
def block():
    block = Block(3)
    block.build((None, 5, 4, 3))
    return block


def test_a_block_calls_onednn(block):
    (images,) = random_tensors([(2, 5, 4, 3)])
    text = jax.jit(block).lower(images).as_text()
    assert text.count(calls.MATMUL) == 2
    assert text.count(calls.CONVOLUTION) == 1


@pytest.mark.parametrize("batch", [2, "batch"])
def test_what_is_exported_does_not_call_onednn(block, batch):
    size = export.symbolic_shape("batch, 5, 4, 3") if batch == "batch" else (batch, 5, 4, 3)
    exported = export.export(jax.jit(block))(jax.ShapeDtypeStruct(size, "float32"))
    (images,) = random_tensors([(2, 5, 4, 3)])
    assert "__onednn" not in exported.mlir_module()
    np.testing.assert_allclose(exported.call(images), block(images), atol=1e-6)


def test_gradients_are_exported_too(block):
    exported = export.export(jax.jit(jax.grad(lambda x: block(x).sum())))(
        jax.ShapeDtypeStruct((2, 5, 4, 3), "float32")
    )
    assert "__onednn" not in exported.mlir_module()


def test_a_block_is_vectorized(block):
    (images,) = random_tensors([(2, 3, 5, 4, 3)])
    expected = jnp.stack([block(some) for some in images])
    assert largest_relative_error(jax.vmap(block)(images), expected) < 1e-6


@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize(("with_bias", "gelu"), [(False, False), (True, False), (True, True)])
def test_matmuls_are_those_of_numpy(transpose_a, transpose_b, with_bias, gelu):
    a, b, bias = random_tensors([(7, 5), (5, 3), (3,)])
    outputs = calls.matmul(
        a.T if transpose_a else a,
        b.T if transpose_b else b,
        bias if with_bias else None,
        transpose_a,
        transpose_b,
        gelu,
    )
    expected = np.asarray(a) @ np.asarray(b) + (np.asarray(bias) if with_bias else 0)
    if gelu:
        expected = jax.nn.gelu(expected, approximate=False)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


def test_supports_what_onednn_knows():
    matrix = jnp.ones((2, 3))
    assert is_supported(matrix, matrix)
    assert not is_supported(matrix, matrix.astype("bfloat16"))
    assert not is_supported(matrix.astype("int32"))
    assert not is_supported(jnp.ones((0, 3)))


def test_leaves_arrays_that_may_be_sharded_to_xla(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert not is_supported(jnp.ones((2, 3)))


@pytest.mark.parametrize(
    ("flags", "most", "taken"),
    [
        ({"avx2", "avx512_bf16"}, None, True),
        ({"avx2"}, None, False),
        ({"avx2", "avx512_bf16"}, "AVX2", False),
    ],
)
def test_bfloat16_is_left_to_xla_where_onednn_may_refuse_it(flags, most, taken, monkeypatch):
    monkeypatch.setattr(support, "_cpu_flags", lambda: flags)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if most:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", most)
    dtypes = support._dtypes.__wrapped__()
    assert (jnp.dtype("bfloat16") in dtypes) == taken
    assert jnp.dtype("float32") in dtypes


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        (support.jaxlib, "__version__", "0.0.1"),
        (support.platform, "system", lambda: "Darwin"),
        (support.platform, "machine", lambda: "aarch64"),
        (support, "_cpu_flags", lambda: {"sse4_1"}),
        (jax, "default_backend", lambda: "gpu"),
    ],
)
def test_is_not_used_where_it_was_not_tested(where, name, value, monkeypatch):
    assert support.has_onednn.__wrapped__()
    monkeypatch.setattr(where, name, value)
    assert not support.has_onednn.__wrapped__()


def test_casts_to_bfloat16_give_jaxs_values():
    from keras_convnext.kernels.jax.cast import cast

    bits = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 3.4e38], "float32")
    values = np.concatenate([bits.view("float32"), special])
    actual, expected = cast(jnp.asarray(values), "bfloat16"), jnp.asarray(values).astype("bfloat16")
    assert actual.dtype == jnp.bfloat16
    exact, truth = (np.asarray(x.astype("float32")) for x in (actual, expected))
    np.testing.assert_array_equal(exact, truth)  # where both have NaN, they are equal
    numbers = ~np.isnan(truth)
    np.testing.assert_array_equal(np.signbit(exact[numbers]), np.signbit(truth[numbers]))
