"""Batches of a few sizes."""

import keras
import numpy as np

from keras_convnext.tasks.prediction_batches import BATCH_SIZE, in_batches, predict_batch


def test_a_network_sees_few_sizes_whatever_the_number_of_images():
    sizes = set()

    class Listening(keras.layers.Layer):
        def call(self, x):  # traced once for each size on JAX, called each time on PyTorch
            sizes.add(x.shape[0])
            return x

    inputs = keras.Input((3,))
    outputs = keras.layers.Dense(2)(Listening()(inputs))
    model = keras.Model(inputs, outputs)
    images = np.random.default_rng(0).normal(0, 1, (BATCH_SIZE, 3)).astype("float32")
    expected = images @ np.asarray(model.layers[-1].kernel)
    sizes.clear()  # of the sizes that Keras tries while it builds a model
    for count in range(1, BATCH_SIZE + 1):
        found = predict_batch(model, list(images[:count]))
        np.testing.assert_allclose(found, expected[:count], rtol=1e-5, atol=1e-6)
    assert sizes - {None} <= {1, 2, 4, 8, 16, 32}


def test_items_come_in_full_batches_but_the_last():
    assert [len(batch) for batch in in_batches(iter(range(70)))] == [32, 32, 6]
    assert list(in_batches([])) == []
