"""The network gives what the PyTorch network of `transformers` gives."""

import numpy as np
import pytest
from comparison import relative_error, zeros_for_random_values
from transformers_reference import (
    channels_first,
    copy_weights,
    network_pair,
    reference_model,
)

import keras_convnext
from keras_convnext.catalog.architectures import VARIANTS

TINY = VARIANTS["convnext_tiny"]


@pytest.fixture(scope="module")
def tiny():
    reference = reference_model(TINY.depths, TINY.dims, classes=1000)
    with zeros_for_random_values():
        model = keras_convnext.ConvNeXtTiny(
            include_preprocessing=False, classifier_activation=None, input_shape=(None, None, 3)
        )
    copy_weights(reference, model)
    return reference, model


def assert_same_logits(reference, model, size):
    import torch

    images = np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32")
    with torch.no_grad():
        expected = reference(channels_first(images)).logits.numpy()

    assert relative_error(model.predict(images, verbose=0), expected) < 1e-4


# The odd size leaves rows and columns out in the stem and in every downsampling.
@pytest.mark.parametrize("size", [(224, 224), (75, 101)], ids=str)
def test_tiny_gives_the_logits_of_the_reference(tiny, size):
    assert_same_logits(*tiny, size)


def test_any_depths_and_dims_give_the_logits_of_the_reference(toy):
    reference, model = network_pair(**toy, classes=5, input_shape=(75, 101, 3))

    assert_same_logits(reference, model, (75, 101))
