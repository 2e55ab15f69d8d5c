"""Stochastic depth drops whole samples, at its rate, while training and only then."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_convnext.layers import StochasticDepth


def draw(layer, samples=1000):
    """Returns what the layer does to ones, one row for each sample."""
    outputs = layer(np.ones((samples, 2, 3, 2), "float32"), training=True)
    return ops.convert_to_numpy(outputs).reshape(samples, -1)


def test_whole_samples_are_dropped_or_scaled_by_exactly_one_over_keep():
    rows = draw(StochasticDepth(0.25, seed=1))

    assert np.all(rows == rows[:, :1])
    assert set(np.unique(rows)) == {np.float32(0), np.float32(1 / 0.75)}


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_frequency_of_dropping_is_the_rate(rate):
    dropped = np.mean(draw(StochasticDepth(rate, seed=1), samples=4000)[:, 0] == 0)

    # Four standard deviations of the mean of 4000 draws.
    assert dropped == pytest.approx(rate, abs=4 * np.sqrt(rate * (1 - rate) / 4000))


@pytest.mark.parametrize(("rate", "training"), [(0.5, False), (0.0, True), (0.0, False)])
def test_identity_when_not_training_and_at_rate_0(rate, training):
    inputs = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")

    outputs = StochasticDepth(rate)(inputs, training=training)

    np.testing.assert_array_equal(ops.convert_to_numpy(outputs), inputs)


def test_there_is_no_random_state_at_rate_0():
    assert StochasticDepth(0.0).variables == []
    assert len(StochasticDepth(0.5).variables) == 1


def test_every_call_draws_new_numbers_and_a_seed_repeats_them():
    first, second = StochasticDepth(0.5, seed=7), StochasticDepth(0.5, seed=7)
    draws = [draw(first), draw(first)]

    assert not np.array_equal(*draws)
    np.testing.assert_array_equal(draws[0], draw(second))
    np.testing.assert_array_equal(draws[1], draw(second))
    assert not np.array_equal(draws[0], draw(StochasticDepth(0.5, seed=8)))


def test_without_a_seed_the_global_seed_decides():
    def draw_after_seeding(seed):
        keras.utils.set_random_seed(seed)
        return draw(StochasticDepth(0.5))

    np.testing.assert_array_equal(draw_after_seeding(1), draw_after_seeding(1))
    assert not np.array_equal(draw_after_seeding(1), draw_after_seeding(2))


def test_every_step_of_fit_draws_new_numbers():
    # Ones become 2 or 0 and should be 2: the loss is twice the dropped part of the batch.
    model = keras.Sequential(
        [
            keras.Input((1,)),
            StochasticDepth(0.5, seed=1),
            keras.layers.Dense(1, use_bias=False, kernel_initializer="ones"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.0), loss="mean_absolute_error")

    history = model.fit(np.ones((64, 1)), np.full((64, 1), 2.0), 64, epochs=4, verbose=0)

    losses = history.history["loss"]
    assert len(set(losses)) > 1
    assert all(0 < loss < 2 for loss in losses)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_refuses_a_rate_outside_0_to_1(rate):
    with pytest.raises(ValueError, match=rf"must lie in \[0, 1\). Received: rate={rate}"):
        StochasticDepth(rate)
