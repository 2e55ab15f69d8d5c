"""The normal distribution of initial weights, drawn by NumPy or Keras."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_convnext.layers.initializers import Normal, weight_initializer

SHAPE = (64, 256)


def values(initializer, dtype="float32"):
    drawn = initializer(SHAPE, dtype)
    assert keras.backend.standardize_dtype(drawn.dtype) == dtype
    return ops.convert_to_numpy(ops.cast(drawn, "float32"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_values_have_the_given_mean_and_standard_deviation(dtype):
    sample = values(Normal(mean=1.0, stddev=0.5, seed=1), dtype)
    # Four standard errors of 16,384 values.
    assert sample.mean() == pytest.approx(1.0, abs=4 * 0.5 / sample.size**0.5)
    assert sample.std() == pytest.approx(0.5, abs=4 * 0.5 / (2 * sample.size) ** 0.5)


def test_values_are_normally_distributed():
    statistics = pytest.importorskip("scipy.stats")
    assert statistics.kstest(values(Normal(stddev=1.0, seed=2)).ravel(), "norm").pvalue > 1e-3


def test_the_standard_deviation_of_the_network_is_two_hundredths():
    assert values(weight_initializer()).std() == pytest.approx(0.02, rel=0.02)
    assert values(weight_initializer(0.5)).std() == pytest.approx(0.01, rel=0.02)


def test_equal_seeds_give_equal_values_and_different_seeds_different_ones():
    first = values(Normal(seed=3))
    np.testing.assert_array_equal(values(Normal(seed=3)), first)
    assert np.abs(values(Normal(seed=4)) - first).max() > 0.01


def test_without_a_seed_every_initializer_draws_its_own_values_after_the_global_seed():
    def two():
        keras.utils.set_random_seed(5)
        return values(Normal()), values(Normal())

    (first, second), again = two(), two()
    assert np.abs(first - second).max() > 0.01
    np.testing.assert_array_equal(np.stack([first, second]), np.stack(again))


def test_a_seed_generator_gives_new_values_at_every_call():
    initializer = Normal(seed=keras.random.SeedGenerator(6))
    assert np.abs(values(initializer) - values(initializer)).max() > 0.01


def test_it_draws_the_same_after_saving_and_loading():
    initializer = Normal(mean=0.1, stddev=0.2, seed=7)
    loaded = keras.initializers.deserialize(keras.initializers.serialize(initializer))
    np.testing.assert_array_equal(values(loaded), values(initializer))
