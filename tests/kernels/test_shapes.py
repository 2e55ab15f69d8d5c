"""Wrong shapes are refused in a sentence, and empty batches give empty results."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from gradients import random_tensors, values_and_gradients
from keras import ops

from keras_convnext import ConvNeXt
from keras_convnext.kernels.reference import BlockParams
from keras_convnext.kernels.select import select
from keras_convnext.layers import Block, DepthwiseConv2D, Downsampling, LayerScale, Stem
from keras_convnext.optimizers import AdamW

BACKEND = keras.backend.backend()


def test_wrong_shapes_do_not_end_the_process():
    command = [sys.executable, Path(__file__).parents[1] / "helpers" / "wrong_inputs.py"]
    process = subprocess.run(command, capture_output=True, text=True)
    attempts = [line.split("|") for line in process.stdout.splitlines()]

    assert attempts and attempts.pop() == ["alive"], process.stderr[-2000:]
    refused = [attempt for attempt in attempts if attempt[0] == "refused"]
    assert len(refused) > 40
    for _, name, error, sentence in refused:
        assert error == "ValueError", (name, error, sentence)
        assert "expected" in sentence.lower() or "takes" in sentence, (name, sentence)
        assert "found" in sentence or "received" in sentence.lower(), (name, sentence)


@pytest.mark.parametrize("layer", [Block, lambda n: Stem(4), lambda n: Downsampling(8)])
def test_a_layer_must_know_its_channels_when_it_is_built(layer):
    with pytest.raises(ValueError, match=r"must know the number of channels"):
        layer(3).build((None, 8, 8, None))


def test_a_gradient_of_another_shape_moves_no_weight():
    weight = keras.Variable(np.ones((4, 3), "float32"))
    optimizer = AdamW(0.1)
    optimizer.build([weight])
    # JAX has no kernel for it, and says so in its own words.
    with pytest.raises((ValueError, TypeError), match=r"shape"):
        optimizer.apply([ops.ones((2, 5))], [weight])
    np.testing.assert_array_equal(weight.numpy(), np.ones((4, 3)))


@pytest.mark.parametrize("training", [False, True])
def test_empty_batches_give_empty_results_and_gradients_of_zero(training):
    inputs = ops.zeros((0, 9, 9, 4))
    for layer in (Block(3), Stem(5), Downsampling(5), DepthwiseConv2D(3), LayerScale()):
        layer.build((None, 9, 9, 4))
        named = {} if isinstance(layer, LayerScale) else {"training": training}
        result = layer(inputs, **named)
        assert tuple(result.shape) == layer.compute_output_shape((0, 9, 9, 4)), layer.name


@pytest.mark.usefixtures("matmuls_by")
def test_gradients_of_an_empty_batch_are_zero():
    shapes = [(0, 4, 4, 3), (3,), (3,), (3, 12), (12,), (12, 3), (3,), (3,), (0, 4, 4, 3)]
    kernel = select("norm_mlp")
    results = values_and_gradients(
        lambda inputs, *weights: kernel(inputs, BlockParams(*weights), 1e-6, True),
        *random_tensors(shapes),
    )
    shapes = [(0, 4, 4, 3), (3, 3, 3, 1), (3,), (0, 4, 4, 3)]
    convolve = select("depthwise_conv2d", kernel_size=3)
    results += values_and_gradients(lambda *a: convolve(*a, True), *random_tensors(shapes))
    shapes = [(0, 4, 4, 3), (2, 2, 3, 5), (5,), (0, 2, 2, 5)]
    patches = select("patch_conv2d")
    results += values_and_gradients(lambda *a: patches(*a, True), *random_tensors(shapes))
    for result in results:
        assert not np.any(ops.convert_to_numpy(result))


@pytest.fixture(scope="module")
def network():
    """A network of images of any size, which has predicted batches of other sizes before."""
    network = ConvNeXt((1, 1, 1), (4, 6, 8), input_shape=(None, None, 3), classes=2)
    for size in (16, 20):
        network.predict_on_batch(np.ones((size // 4, size, size + 4, 3), "float32"))
    return network


def test_a_network_takes_an_empty_batch(network):
    empty = np.ones((0, 24, 16, 3), "float32")
    assert network.predict_on_batch(empty).shape == (0, 2)
    for training in (False, True):
        assert tuple(network(empty, training=training).shape) == (0, 2)


@pytest.mark.parametrize("size", [(8, 40), (3, 3), (33, 15)], ids=str)
def test_images_that_are_too_small_are_refused_in_a_sentence(network, size):
    """Also where the size is known only when a compiled function runs."""
    small = np.ones((1, *size, 3), "float32")
    for call in (network, network.predict_on_batch, lambda x: network(x, training=True)):
        with pytest.raises(Exception, match=r"images are too small") as raised:
            call(small)
        assert isinstance(raised.value, ValueError) or BACKEND == "tensorflow"
    # The network is as good as before.
    assert np.all(np.isfinite(network.predict_on_batch(np.ones((1, 20, 24, 3), "float32"))))


def test_patches_as_large_as_the_image_are_taken(network):
    assert network.predict_on_batch(np.ones((1, 16, 19, 3), "float32")).shape == (1, 2)
