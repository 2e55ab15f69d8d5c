"""The kernels of LayerNorm, the two dense layers and layer scale against `keras.ops`."""

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

from keras_convnext.kernels import reference as references
from keras_convnext.kernels.reference import BlockParams
from keras_convnext.kernels.select import select

pytestmark = pytest.mark.usefixtures("matmuls_by")
EPSILON = 1e-6


def of_tensors(kernel, training):
    """Returns a function of the inputs and of each weight, as the helpers of these tests take."""

    def run(inputs, *weights):
        return kernel(inputs, BlockParams(*weights), EPSILON, training)

    return run


def selected(training=False):
    kernel = select("norm_mlp")
    assert kernel is not references.norm_mlp
    return of_tensors(kernel, training)


reference = of_tensors(references.norm_mlp, training=False)


def shapes(size, channels=5, hidden=11):
    """Returns the shapes of inputs, of all weights, and of the result."""
    inputs, vector = (*size, channels), (channels,)
    dense = [(channels, hidden), (hidden,), (hidden, channels), vector]
    return [inputs, vector, vector, *dense, vector, inputs]


def without_scale(function):
    """A kernel or the reference, without layer scale."""
    return lambda *arguments: function(*arguments, None)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("size", [(2, 3, 7), (1, 1, 1), (4,)], ids=str)
def test_values_and_gradients_equal_the_reference(size, dtype, tolerance, training):
    compare_with_reference(selected(training), reference, shapes(size), dtype, tolerance)


@pytest.mark.parametrize("training", [False, True])
def test_values_and_gradients_equal_the_reference_without_layer_scale(training):
    *weights, _, result = shapes((2, 3, 7))
    kernel, truth = without_scale(selected(training)), without_scale(reference)
    compare_with_reference(kernel, truth, [*weights, result], "float32", 2e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("size", [(2, 3, 7), (1, 1, 1), (4,)], ids=str)
def test_values_equal_the_reference_without_gradients(size, dtype, tolerance):
    shapes_ = shapes(size)[:-1]
    compare_values_with_reference(selected(), reference, shapes_, dtype, tolerance)


def test_no_rows_give_no_rows():
    with without_gradients():
        result = selected()(*random_tensors(shapes((0, 3, 3)))[:-1])
    assert tuple(result.shape) == (0, 3, 3, 5)


def test_gelu_is_exact_far_out_on_both_sides():
    # LayerNorm leaves -1 and 1 as they are, so its factors are what GELU is applied to.
    far = np.linspace(0, 12, 98, dtype="float32")
    inputs = ops.convert_to_tensor(np.tile([-1.0, 1.0], 49).astype("float32")[np.newaxis])
    ones, zeros, identity = ops.ones(98), ops.zeros(98), ops.eye(98)
    norm = ops.convert_to_tensor(far), zeros
    arguments = inputs, *norm, identity, zeros, identity, zeros, ones, ops.ones_like(inputs)
    expected = values_and_gradients(reference, *arguments)
    for training in (False, True):
        actual = values_and_gradients(selected(training), *arguments)
        for number in (0, 5):  # the result, and the gradient for the first bias
            result, truth = (ops.convert_to_numpy(x[number]) for x in (actual, expected))
            # Rounding 1 - erf by the last place of float32 moves GELU by this at -12.
            np.testing.assert_allclose(result, truth, rtol=1e-6, atol=2e-6)


def test_bfloat16_bias_gradients_are_summed_in_float32():
    # Sums of this many rows: in bfloat16 they would stop growing at 256.
    rows = 3200
    arguments = [ops.zeros(shape) for shape in shapes((rows,), channels=1, hidden=1)[:-2]]
    arguments = [ops.cast(x, "bfloat16") for x in (*arguments, ops.ones(1), ops.ones((rows, 1)))]
    *_, bias_gradient, _ = values_and_gradients(selected(training=True), *arguments)
    assert float(bias_gradient[0]) == rows


def test_gradients_of_gradients_equal_the_references():
    """As needed for a penalty on the gradient."""
    arguments = random_tensors(shapes((3,))[:-1])
    actual = second_gradients(selected(training=True), arguments)
    expected = second_gradients(reference, arguments)
    for name, result, truth in zip(NAMES, actual, expected, strict=True):
        if name == "bias_2":  # the gradient of the inputs does not depend on it
            assert not ops.any(result)
        else:
            assert largest_relative_error(result, truth) < 1e-5, name


NAMES = ("inputs", *BlockParams._fields)


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
        for function in (selected(training=True), reference)
    ]
    for result, truth in zip(*results, strict=True):
        assert largest_relative_error(result, truth) < 1e-5
