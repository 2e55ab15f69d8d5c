"""The kernels of LayerNorm, the two dense layers and layer scale against `keras.ops`."""

import functools
import importlib

import keras
import numpy as np
import pytest
from gradients import (
    compare_values_with_reference,
    compare_with_reference,
    largest_relative_error,
    random_tensors,
    second_gradients,
    values_and_gradients,
    without_gradients,
)
from keras import ops

from keras_convnext import kernels
from keras_convnext.kernels.select import fastest
from keras_convnext.layers import LayerScale

pytestmark = pytest.mark.usefixtures("products_by")
# The package's attribute of this name is the function; this is the module it comes from.
module = importlib.import_module("keras_convnext.kernels.norm_mlp")
EPSILON = 1e-6
reference = functools.partial(module.reference, epsilon=EPSILON)


def fastest_kernel(training=False):
    kernel = fastest("norm_mlp", module.reference)
    assert kernel is not module.reference
    return functools.partial(kernel, epsilon=EPSILON, training=training)


def shapes(size, channels=5, hidden=11):
    """Returns the shapes of inputs, of all weights, and of the result."""
    inputs, vector = (*size, channels), (channels,)
    dense = [(channels, hidden), (hidden,), (hidden, channels), vector]
    return [inputs, vector, vector, *dense, vector, inputs]


def without_scale(function):
    """A kernel or the reference, of all arguments but layer scale."""
    return lambda *arguments: function(*arguments, None)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("size", [(2, 3, 7), (1, 1, 1), (4,)], ids=str)
def test_values_and_gradients_equal_the_reference(size, dtype, tolerance, training):
    compare_with_reference(fastest_kernel(training), reference, shapes(size), dtype, tolerance)


@pytest.mark.parametrize("training", [False, True])
def test_values_and_gradients_equal_the_reference_without_layer_scale(training):
    *weights, _, result = shapes((2, 3, 7))
    kernel, truth = without_scale(fastest_kernel(training)), without_scale(reference)
    compare_with_reference(kernel, truth, [*weights, result], "float32", 2e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("size", [(2, 3, 7), (1, 1, 1), (4,)], ids=str)
def test_values_equal_the_reference_where_no_gradients_are_asked_for(size, dtype, tolerance):
    shapes_ = shapes(size)[:-1]
    compare_values_with_reference(fastest_kernel(), reference, shapes_, dtype, tolerance)


def test_no_rows_give_no_rows():
    with without_gradients():
        result = fastest_kernel()(*random_tensors(shapes((0, 3, 3)))[:-1])
    assert tuple(result.shape) == (0, 3, 3, 5)


def test_gelu_is_exact_far_out_on_both_sides():
    # LayerNorm leaves -1 and 1 as they are, and its scale says what GELU is taken of.
    far = np.linspace(0, 12, 98, dtype="float32")
    inputs = ops.convert_to_tensor(np.tile([-1.0, 1.0], 49).astype("float32")[np.newaxis])
    ones, zeros, identity = ops.ones(98), ops.zeros(98), ops.eye(98)
    norm = ops.convert_to_tensor(far), zeros
    arguments = inputs, *norm, identity, zeros, identity, zeros, ones, ops.ones_like(inputs)
    expected = values_and_gradients(reference, *arguments)
    for training in (False, True):
        actual = values_and_gradients(fastest_kernel(training), *arguments)
        for number in (0, 5):  # the result, and the gradient for the first bias
            result, truth = (ops.convert_to_numpy(x[number]) for x in (actual, expected))
            # Rounding 1 - erf by the last place of float32 moves GELU by this at -12.
            np.testing.assert_allclose(result, truth, rtol=1e-6, atol=2e-6)


def test_bfloat16_bias_gradients_are_added_up_exactly():
    # Sums of this many rows: added up in bfloat16 they would stop growing at 256.
    rows = 3200
    arguments = [ops.zeros(shape) for shape in shapes((rows,), channels=1, hidden=1)[:-2]]
    arguments = [ops.cast(x, "bfloat16") for x in (*arguments, ops.ones(1), ops.ones((rows, 1)))]
    *_, bias_gradient, _ = values_and_gradients(fastest_kernel(training=True), *arguments)
    assert float(bias_gradient[0]) == rows


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("mixed_bfloat16", 2e-2)])
@pytest.mark.parametrize("with_scale", [False, True])
def test_equals_the_layers(with_scale, dtype, tolerance):
    norm = keras.layers.LayerNormalization(epsilon=EPSILON, dtype=dtype)
    first, second = (
        keras.layers.Dense(units, bias_initializer="random_normal", dtype=dtype) for units in (7, 5)
    )
    scale = LayerScale(0.3, dtype=dtype) if with_scale else None
    for layer in (norm, first, scale):
        if layer is not None:
            layer.build((None, None, None, 5))
    second.build((None, None, None, 7))
    (inputs,) = random_tensors([(2, 3, 4, 5)], norm.compute_dtype)
    # In a network the block's call sets the dtype that weights are read in.
    with keras.src.backend.AutocastScope(norm.compute_dtype):
        result = kernels.norm_mlp(norm, first, second, scale, inputs)
    assert keras.backend.standardize_dtype(result.dtype) == norm.compute_dtype
    expected = second(ops.gelu(first(norm(inputs)), approximate=False))
    expected = scale(expected) if with_scale else expected
    result, expected = (ops.convert_to_numpy(ops.cast(x, "float32")) for x in (result, expected))
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


def test_gradients_of_gradients_equal_the_references():
    """As a penalty on the gradient needs them; of the inputs and of the first kernel."""
    arguments = random_tensors(shapes((3,))[:-1])
    actual = second_gradients(fastest_kernel(training=True), arguments)
    expected = second_gradients(reference, arguments)
    for name, result, truth in zip(NAMES, actual, expected, strict=True):
        if name == "bias_2":  # it does not tell in the inputs' gradient
            assert not ops.any(result)
        else:
            assert largest_relative_error(result, truth) < 1e-5, name


NAMES = ("inputs", "gamma", "beta", "kernel_1", "bias_1", "kernel_2", "bias_2", "scale")


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="others leave out what is unused")
@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("rows", [3, 30])  # fewer than hidden units, and more
@pytest.mark.parametrize(
    "trained",
    [("inputs", "bias_1"), ("inputs", "bias_2"), ("scale",), ("kernel_2", "scale"), ("gamma",)],
    ids="-".join,
)
def test_frozen_weights_get_no_gradients(trained, rows, create_graph):
    import torch

    *arguments, output_gradient = random_tensors(shapes((rows,)))
    wanted = [arguments[NAMES.index(name)].requires_grad_() for name in trained]
    results = [
        torch.autograd.grad(
            function(*arguments), wanted, output_gradient, create_graph=create_graph
        )
        for function in (fastest_kernel(training=True), reference)
    ]
    for result, truth in zip(*results, strict=True):
        assert largest_relative_error(result, truth) < 1e-5
