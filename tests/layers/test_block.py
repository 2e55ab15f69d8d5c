"""The block against its formula in NumPy, and its arguments."""

import numpy as np
import pytest
from keras import ops
from scipy.special import erf

from keras_convnext.layers import Block

CHANNELS = 3


def random_block(**arguments):
    """Returns a block with random weights, large enough for every part to matter."""
    block = Block(1, **arguments)
    block.build((None, None, None, CHANNELS))
    random = np.random.default_rng(0)
    block.set_weights([random.normal(size=w.shape).astype("float32") for w in block.weights])
    return block


def formula(block, x):
    """The block in float64; a 1x1 depthwise kernel is a factor, larger ones are tested apart."""

    def value(variable):
        return ops.convert_to_numpy(variable).astype("float64")

    branch = x * value(block.depthwise_conv.kernel)[0, 0, :, 0] + value(block.depthwise_conv.bias)
    centred = branch - branch.mean(-1, keepdims=True)
    branch = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    branch = branch * value(block.norm.gamma) + value(block.norm.beta)
    branch = branch @ value(block.pointwise_conv_1.kernel) + value(block.pointwise_conv_1.bias)
    branch = branch * (1 + erf(branch / np.sqrt(2))) / 2
    branch = branch @ value(block.pointwise_conv_2.kernel) + value(block.pointwise_conv_2.bias)
    if block.layer_scale is not None:
        branch = branch * value(block.layer_scale.gamma)
    return x + branch


# Small images make the variance under LayerNorm as small as its epsilon, so epsilon shows.
@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize("layer_scale_init_value", [0.5, None])
def test_equals_the_formula_with_exact_gelu(scale, layer_scale_init_value):
    block = random_block(layer_scale_init_value=layer_scale_init_value)
    block.depthwise_conv.bias.assign(np.zeros(CHANNELS))  # or it would drown the small images
    images = scale * np.random.default_rng(1).normal(size=(2, 5, 3, CHANNELS)).astype("float32")

    outputs = ops.convert_to_numpy(block(images))

    # The tanh form of GELU is off by up to 5e-4 in each of the 12 inner channels.
    np.testing.assert_allclose(outputs, formula(block, images), rtol=2e-5, atol=2e-5)


def test_without_layer_scale_there_is_no_such_weight():
    block = random_block(layer_scale_init_value=None)

    assert block.layer_scale is None
    assert not [weight.path for weight in block.weights if "layer_scale" in weight.path]


def test_a_dropped_sample_passes_unchanged_and_a_kept_one_is_scaled():
    block = random_block(drop_path_rate=0.5)
    images = np.random.default_rng(1).normal(size=(32, 2, 2, CHANNELS)).astype("float32")
    branch = formula(block, images) - images

    outputs = ops.convert_to_numpy(block(images, training=True))

    dropped = np.array([np.array_equal(a, b) for a, b in zip(outputs, images, strict=True)])
    assert 0 < dropped.sum() < 32
    np.testing.assert_allclose(
        outputs[~dropped], (images + 2 * branch)[~dropped], rtol=1e-4, atol=1e-4
    )


def test_starts_close_to_the_identity():
    images = np.random.default_rng(1).normal(size=(1, 4, 4, CHANNELS)).astype("float32")

    np.testing.assert_allclose(ops.convert_to_numpy(Block(3)(images)), images, atol=1e-5)


def test_parts_take_the_policy_of_the_block():
    block = Block(3, drop_path_rate=0.1, dtype="mixed_bfloat16")
    block.build((None, 4, 4, CHANNELS))

    parts = block._flatten_layers(include_self=False)
    assert {part.dtype_policy.name for part in parts} == {"mixed_bfloat16"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 4}, "`kernel_size` must be odd"),
        ({"drop_path_rate": 1.0}, "must lie in"),
        ({"layer_scale_init_value": 0}, "must be above 0"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        Block(**arguments)
