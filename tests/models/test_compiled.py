"""A whole network compiled by PyTorch, as `jit_compile=True` asks; the others always compile."""

import shutil

import keras
import numpy as np
import pytest
from small_models import trainable


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "torch", reason="torch.compile is PyTorch's")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
# PyTorch's compiler looks at every tensor's gradient, of which PyTorch warns.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_it_predicts_and_trains_as_one_that_is_not(small, images):
    data, labels = images(4, 16, 16, 3), np.arange(4) % 3
    plain = trainable(small, drop_path_rate=0.0)
    compiled = keras.models.clone_model(plain)
    compiled.set_weights(plain.get_weights())
    compiled.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=True,
    )
    plain.compile(
        keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )

    for _ in range(2):
        losses = [model.train_on_batch(data, labels) for model in (plain, compiled)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    expected, actual = (model.predict(data, verbose=0) for model in (plain, compiled))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
