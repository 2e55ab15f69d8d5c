"""AdamW's kernels against their reference."""

import keras
import numpy as np
import pytest

from keras_convnext.kernels import reference, select
from keras_convnext.optimizers import AdamW

pytestmark = pytest.mark.skipif(
    select.select("adamw") is reference.adamw, reason="the reference is selected here"
)
SHAPES = ((3, 5), (4,))


def updates(dtype="float32", amsgrad=False, gradient_of=lambda gradient: gradient):
    """Returns two weights and their slots after four updates."""
    random = np.random.default_rng(0)
    variables = [keras.Variable(random.normal(size=shape), dtype=dtype) for shape in SHAPES]
    optimizer = AdamW(1e-2, weight_decay=0.3, amsgrad=amsgrad)
    for _ in range(4):
        gradients = (random.normal(size=shape).astype("float32") for shape in SHAPES)
        gradients = [keras.ops.cast(gradient, dtype) for gradient in gradients]
        optimizer.apply([gradient_of(gradient) for gradient in gradients], variables)
    return [
        keras.ops.convert_to_numpy(keras.ops.cast(x, "float32"))
        for x in _state_of(optimizer, variables)
    ]


def _state_of(optimizer, variables):
    return [*variables, *optimizer.variables]


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-6), ("bfloat16", 2e-2)]
)
def test_updates_weights_and_moments_as_the_reference_does(dtype, tolerance, amsgrad, monkeypatch):
    actual = updates(dtype, amsgrad)
    monkeypatch.setenv(select.VARIABLE, "reference")
    for result, truth in zip(actual, updates(dtype, amsgrad), strict=True):
        np.testing.assert_allclose(result, truth, rtol=tolerance, atol=tolerance)


def test_gradients_may_have_other_strides():
    def transposed(gradient):  # the same values, by columns
        axes = tuple(reversed(range(len(gradient.shape))))
        return keras.ops.transpose(keras.ops.copy(keras.ops.transpose(gradient, axes)), axes)

    for result, truth in zip(updates(gradient_of=transposed), updates(), strict=True):
        np.testing.assert_array_equal(result, truth)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow has graphs")
def test_shared_computations_are_in_a_graph_once():
    import tensorflow as tf

    def operations(weights):
        variables = [keras.Variable(np.ones((2, 3))) for _ in range(weights)]
        optimizer = AdamW(1e-2)
        optimizer.build(variables)
        step = tf.function(lambda: optimizer.apply([tf.ones((2, 3))] * weights, variables))
        return [operation.type for operation in step.get_concrete_function().graph.get_operations()]

    of_one, of_three = operations(1), operations(3)
    for kind in ("Expm1", "Sqrt", "RealDiv"):
        assert of_three.count(kind) == of_one.count(kind) > 0
    assert len(of_three) - len(of_one) < 2 * 16


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="Keras allows none there")
def test_a_stateless_update_changes_nothing_in_place():
    (weight,) = variables = [keras.Variable(np.ones((2, 3)))]
    optimizer = AdamW(1e-2)
    optimizer.build(variables)
    state = [keras.ops.convert_to_numpy(x).copy() for x in _state_of(optimizer, variables)]
    gradient = keras.ops.ones((2, 3))

    (moved,), _ = optimizer.stateless_apply(
        [variable.value for variable in optimizer.variables], [gradient], [weight.value]
    )

    for variable, before in zip(_state_of(optimizer, variables), state, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), before)
    optimizer.apply([gradient], variables)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(moved), keras.ops.convert_to_numpy(weight), rtol=1e-6
    )
