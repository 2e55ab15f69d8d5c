"""The two dense layers' kernels against `keras.ops`."""

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
from keras_convnext.kernels.choice import fastest

pytestmark = pytest.mark.usefixtures("products_by")
# The package's attribute of this name is the function; this is the module it comes from.
reference = importlib.import_module("keras_convnext.kernels.mlp").reference


def shapes(size, channels=5, hidden=11):
    """Returns the shapes of inputs, of both layers' weights, and of the result."""
    inputs = (*size, channels)
    return [inputs, (channels, hidden), (hidden,), (hidden, channels), (channels,), inputs]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("size", [(2, 3, 7), (1, 1, 1), (4,)], ids=str)
def test_values_and_gradients_equal_the_reference(size, dtype, tolerance, training):
    kernel = fastest("mlp", reference)
    assert kernel is not reference
    compare_with_reference(
        lambda *arguments: kernel(*arguments, training),
        reference,
        shapes(size),
        dtype,
        tolerance,
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("size", [(2, 3, 7), (1, 1, 1), (4,)], ids=str)
def test_values_equal_the_reference_where_no_gradients_are_asked_for(size, dtype, tolerance):
    kernel = fastest("mlp", reference)
    compare_values_with_reference(kernel, reference, shapes(size)[:-1], dtype, tolerance)


def test_no_rows_give_no_rows():
    with without_gradients():
        result = fastest("mlp", reference)(*random_tensors(shapes((0, 3, 3)))[:-1])
    assert tuple(result.shape) == (0, 3, 3, 5)


def test_gelu_is_exact_far_out_on_both_sides():
    one = ops.ones((1, 1))
    zero = ops.zeros((1,))
    inputs = ops.convert_to_tensor(np.linspace(-12, 12, 97, dtype="float32")[:, np.newaxis])
    for training in (False, True):
        values, gradient, *_ = values_and_gradients(
            lambda x, training=training: fastest("mlp", reference)(
                x, one, zero, one, zero, training
            ),
            inputs,
            ops.ones_like(inputs),
        )
        truth, truth_gradient, *_ = values_and_gradients(
            lambda x: reference(x, one, zero, one, zero), inputs, ops.ones_like(inputs)
        )
        for actual, expected in ((values, truth), (gradient, truth_gradient)):
            actual, expected = map(ops.convert_to_numpy, (actual, expected))
            # Rounding 1 - erf by the last place of float32 moves GELU by this at -12.
            np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=2e-6)


def test_bfloat16_bias_gradients_are_added_up_exactly():
    # Sums of this many rows: added up in bfloat16 they would stop growing at 256.
    rows = 3200
    arguments = [ops.zeros((rows, 1)), ops.zeros((1, 1)), ops.zeros(1), ops.zeros((1, 1))]
    arguments = [ops.cast(x, "bfloat16") for x in (*arguments, ops.zeros(1), ops.ones((rows, 1)))]
    kernel = fastest("mlp", reference)
    *_, bias_gradient = values_and_gradients(lambda *a: kernel(*a, True), *arguments)
    assert float(bias_gradient[0]) == rows


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("mixed_bfloat16", 2e-2)])
def test_equals_the_layers(dtype, tolerance):
    layers = [
        keras.layers.Dense(units, bias_initializer="random_normal", dtype=dtype) for units in (7, 5)
    ]
    layers[0].build((None, None, None, 5))
    layers[1].build((None, None, None, 7))
    (inputs,) = random_tensors([(2, 3, 4, 5)], layers[0].compute_dtype)
    # In a network the block's call sets the dtype that weights are read in.
    with keras.src.backend.AutocastScope(layers[0].compute_dtype):
        result = kernels.mlp(*layers, inputs)
    assert keras.backend.standardize_dtype(result.dtype) == layers[0].compute_dtype
    expected = layers[1](ops.gelu(layers[0](inputs), approximate=False))
    result, expected = (ops.convert_to_numpy(ops.cast(x, "float32")) for x in (result, expected))
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


def test_gradients_of_gradients_equal_the_references():
    """As a penalty on the gradient needs them; of the inputs and of the first kernel."""
    arguments = random_tensors(shapes((3,))[:-1])
    kernel = fastest("mlp", reference)
    actual = second_gradients(lambda *a: kernel(*a, True), arguments)
    expected = second_gradients(reference, arguments)
    for result, truth in zip(actual[:-1], expected[:-1], strict=True):
        assert largest_relative_error(result, truth) < 1e-5
    assert not ops.any(actual[-1])  # the last bias does not tell in the inputs' gradient


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="others leave out what is unused")
@pytest.mark.parametrize("create_graph", [False, True])
def test_frozen_weights_get_no_gradients(create_graph):
    import torch

    *arguments, output_gradient = random_tensors(shapes((3,)))
    for number in (0, 2):  # the inputs and the first bias
        arguments[number].requires_grad_()
    kernel = fastest("mlp", reference)
    wanted = [arguments[0], arguments[2]]
    results = [
        torch.autograd.grad(
            function(*arguments), wanted, output_gradient, create_graph=create_graph
        )
        for function in (lambda *a: kernel(*a, True), reference)
    ]
    for result, truth in zip(*results, strict=True):
        assert largest_relative_error(result, truth) < 1e-5
