"""Every kernel for JAX can be lowered for CUDA: no more than that is known without a GPU."""

import importlib

import keras
import pytest

if keras.backend.backend() != "jax":
    pytest.skip("these kernels are JAX's", allow_module_level=True)

import jax
import jax.numpy as jnp
from jax import export

from keras_convnext.kernels import reference, select
from keras_convnext.kernels.reference import BlockParams

BATCH, SIDE, CHANNELS = 2, 8, 4
EPSILON = 1e-6


def arrays(*shapes):
    """Returns a function from a dtype to descriptions of arrays of these shapes."""
    return lambda dtype: [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]


def vectors(*sizes):
    return [(size,) for size in sizes]


IMAGES = BATCH, SIDE, SIDE, CHANNELS
OPERANDS = {
    "depthwise_conv2d": arrays(IMAGES, (7, 7, CHANNELS, 1), (CHANNELS,)),
    "patch_conv2d": arrays(IMAGES, (2, 2, CHANNELS, 8), (8,)),
    "layer_norm": arrays(IMAGES, *vectors(CHANNELS, CHANNELS)),
    "norm_mlp": arrays(
        IMAGES,
        *vectors(CHANNELS, CHANNELS),
        *((CHANNELS, 16), (16,), (16, CHANNELS)),
        *vectors(CHANNELS, CHANNELS),
    ),
}


def call(operation, implementation, inputs, *weights):
    if operation == "norm_mlp":
        return implementation(inputs, BlockParams(*weights), EPSILON, True)
    if operation == "layer_norm":
        return implementation(inputs, *weights, EPSILON, True)
    return implementation(inputs, *weights, True)


def candidates():
    """Yields each operation with each of its implementations for JAX, and its reference."""
    for row in select.KERNELS:
        if row.backend == "jax":
            module = importlib.import_module(f"keras_convnext.kernels.{row.path}")
            yield pytest.param(
                row.operation, getattr(module, row.operation), id=f"{row.path}.{row.operation}"
            )
    for operation in OPERANDS:
        yield pytest.param(operation, getattr(reference, operation), id=f"reference.{operation}")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("operation", "implementation"), candidates())
def test_values_and_gradients_are_lowered_for_cuda(operation, implementation, dtype, monkeypatch):
    # Some kernels ask for the machine they run on, and compute otherwise on a CPU.
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")

    def loss(*operands):
        return call(operation, implementation, *operands).astype("float32").sum()

    operands = OPERANDS[operation](dtype)
    step = jax.jit(jax.value_and_grad(loss, argnums=tuple(range(len(operands)))))
    program = export.export(step, platforms=["cuda"])(*operands)
    assert program.platforms == ("cuda",)
    assert "__onednn" not in program.mlir_module()
    value, gradients = program.out_avals[0], program.out_avals[1:]
    assert value.dtype == jnp.float32
    assert [(x.shape, x.dtype) for x in gradients] == [(x.shape, x.dtype) for x in operands]


def test_kernels_for_gpus_are_among_them():
    found = {
        operation: select.first_match(operation, "jax", {select.ANY}, 7) for operation in OPERANDS
    }
    assert {operation: row and row.path for operation, row in found.items()} == {
        "depthwise_conv2d": None,
        "patch_conv2d": None,
        "layer_norm": "jax.layer_norm",
        "norm_mlp": "jax.norm_mlp",
    }
