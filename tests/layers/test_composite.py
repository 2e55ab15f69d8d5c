"""Settings of a composite layer and of its parts take effect and are saved."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_convnext import ConvNeXt
from keras_convnext.layers import Block, DepthwiseConv2D, Downsampling, Stem
from keras_convnext.layers.part_watch import HOOKS

BACKEND = keras.backend.backend()
IMAGES = np.random.default_rng(0).normal(size=(3, 8, 6, 4)).astype("float32")
L2 = 0.01
LAYERS = {
    "block": (lambda **a: Block(3, layer_scale_init_value=0.5, **a), 3),
    "stem": (lambda **a: Stem(5, 2, **a), 1),
    "downsampling": (lambda **a: Downsampling(5, **a), 1),
    "depthwise": (lambda **a: DepthwiseConv2D(3, **a), 1),
}
every_layer = pytest.mark.parametrize("kind", LAYERS)


def made(kind, **arguments):
    layer = LAYERS[kind][0](**arguments)
    layer.build((None, 8, 6, 4))
    return layer


def rebuilt(layer):
    copy = keras.layers.deserialize(keras.layers.serialize(layer))
    assert copy.built
    copy.set_weights(layer.get_weights())
    return copy


def penalty(layer):
    """Returns the sum of the squares of a layer's kernels, times the factor."""
    kernels = [w for w in layer.trainable_weights if w.name == "kernel"]
    return L2 * sum(np.sum(np.square(ops.convert_to_numpy(kernel))) for kernel in kernels)


def losses(layer):
    return [float(ops.convert_to_numpy(loss)) for loss in layer.losses]


@every_layer
@pytest.mark.parametrize("when", ["made", "set"])
def test_a_regularizer_applies_to_every_kernel_and_is_saved(kind, when):
    regularizer = keras.regularizers.L2(L2)
    layer = made(kind, **({"kernel_regularizer": regularizer} if when == "made" else {}))
    if when == "set":
        assert layer.losses == []
        layer.kernel_regularizer = regularizer
    copies = [layer, rebuilt(layer), rebuilt(rebuilt(layer))]
    for copy in copies:
        assert len(losses(copy)) == LAYERS[kind][1]
        assert sum(losses(copy)) == pytest.approx(penalty(copy), rel=1e-4)
    layer.kernel_regularizer = None
    assert layer.losses == [] and rebuilt(layer).losses == []


def test_regularizers_set_on_all_layers_of_a_network_survive_a_rebuild():
    """As is common with `keras.applications`: set, then rebuild from the config."""
    network = ConvNeXt((1, 1), (4, 6), kernel_size=3, input_shape=(16, 16, 3), classes=2)
    regularized = [
        layer for layer in network._flatten_layers() if hasattr(layer, "kernel_regularizer")
    ]
    for layer in regularized:
        layer.kernel_regularizer = keras.regularizers.L1L2(0.0, L2)
    copy = keras.models.clone_model(network)
    kernels = [w for w in copy.trainable_weights if w.name == "kernel"]
    assert len(copy.losses) == len(kernels) == 2 * 3 + 3
    assert sum(losses(copy)) == pytest.approx(penalty(copy), rel=1e-4)


def test_settings_of_one_part_are_saved():
    block = made("block")
    assert block.get_config()["parts"] == {}
    block.pointwise_conv_1.kernel_regularizer = keras.regularizers.L2(L2)
    block.pointwise_conv_2.bias_constraint = keras.constraints.NonNeg()
    block.norm.trainable = False
    copy = rebuilt(rebuilt(block))
    assert set(copy.get_config()["parts"]) == {"pointwise_conv_1", "pointwise_conv_2", "norm"}
    kernel = ops.convert_to_numpy(block.pointwise_conv_1.kernel)
    assert losses(copy) == pytest.approx([L2 * np.sum(np.square(kernel))], rel=1e-4)
    assert isinstance(copy.pointwise_conv_2.bias_constraint, keras.constraints.NonNeg)
    assert len(copy.trainable_weights) == len(block.weights) - 2


def test_the_config_of_a_frozen_layer_does_not_list_its_parts():
    block = made("block")
    block.trainable = False
    assert block.get_config()["parts"] == {}
    copy = rebuilt(block)
    assert copy.trainable_weights == []
    copy.trainable = True
    assert len(copy.trainable_weights) == len(copy.weights)


PARTS = [
    ("block", "depthwise_conv"),
    ("block", "norm"),
    ("block", "pointwise_conv_1"),
    ("block", "pointwise_conv_2"),
    ("block", "layer_scale"),
    ("block", "stochastic_depth"),
    ("stem", "conv"),
    ("stem", "norm"),
    ("downsampling", "norm"),
    ("downsampling", "conv"),
]
every_part = pytest.mark.parametrize(("kind", "name"), PARTS)


@every_part
def test_an_activity_regularizer_on_a_part_takes_effect_and_is_saved(kind, name):
    layer = made(kind)
    expected = ops.convert_to_numpy(layer(IMAGES))
    getattr(layer, name).activity_regularizer = keras.regularizers.L2(L2)
    for each in (layer, rebuilt(layer)):
        np.testing.assert_allclose(
            ops.convert_to_numpy(each(IMAGES)), expected, rtol=1e-4, atol=1e-5
        )
        assert len(losses(each)) == 1 and losses(each)[0] > 0


@pytest.mark.skipif(BACKEND != "torch", reason="hooks are PyTorch's")
@every_part
def test_hooks_on_a_part_are_called(kind, name):
    import torch

    layer, calls = made(kind), []
    images = torch.tensor(IMAGES, requires_grad=True)
    expected = layer(images)
    part = getattr(layer, name)
    assert all(hooks in part.__dict__ for hooks in HOOKS), "PyTorch keeps its hooks elsewhere"
    handles = [
        part.register_forward_pre_hook(lambda *_: calls.append("before")),
        part.register_forward_hook(lambda *_: calls.append("after")),
        part.register_full_backward_hook(lambda *_: calls.append("back")),
    ]
    result = layer(images)
    result.sum().backward()
    assert calls == ["before", "after", "back"]
    torch.testing.assert_close(result, expected)
    part.register_forward_hook(lambda module, inputs, output: 2 * output)
    assert not torch.allclose(layer(images), expected)
    for handle in handles:
        handle.remove()
    layer(images)
    assert len(calls) == 5


def test_an_activation_set_on_a_part_is_applied():
    block = made("block")
    plain = ops.convert_to_numpy(block(IMAGES))
    block.pointwise_conv_2.activation = keras.activations.relu
    branch = ops.convert_to_numpy(block(IMAGES)) - IMAGES
    np.testing.assert_allclose(branch, np.maximum(plain - IMAGES, 0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        ops.convert_to_numpy(rebuilt(block)(IMAGES)) - IMAGES, branch, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("through", ["block", "part"])
def test_the_rate_of_stochastic_depth_can_be_set(through):
    def change(rate):
        if through == "block":
            block.drop_path_rate = rate
        else:
            block.stochastic_depth.rate = rate

    def dropped():
        outputs = ops.convert_to_numpy(block(np.repeat(IMAGES, 20, 0), training=True))
        return sum(
            np.array_equal(x, y) for x, y in zip(outputs, np.repeat(IMAGES, 20, 0), strict=True)
        )

    block = made("block", drop_path_rate=0.4)
    change(0)
    assert dropped() == 0 and block.get_config()["drop_path_rate"] == 0
    change(0.9)
    assert dropped() > 40 and block.drop_path_rate == block.stochastic_depth.rate == 0.9
    assert rebuilt(block).stochastic_depth.rate == 0.9
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\). Received: rate=1.5"):
        change(1.5)


def test_a_block_created_without_stochastic_depth_can_get_it_later():
    block = made("block")
    assert block.stochastic_depth.variables == []
    block.drop_path_rate = 0.5
    outputs = ops.convert_to_numpy(block(np.repeat(IMAGES, 20, 0), training=True))
    same = [np.array_equal(x, y) for x, y in zip(outputs, np.repeat(IMAGES, 20, 0), strict=True)]
    assert 15 < sum(same) < 45
    assert len(block.variables) == len(block.weights) + 1


def test_a_new_rate_applies_after_the_next_compile():
    network = ConvNeXt((1, 2), (4, 6), kernel_size=3, input_shape=(16, 16, 3), drop_path_rate=0.9)
    for layer in network.layers:
        if isinstance(layer, Block):
            layer.drop_path_rate = 0.0
    pixels = np.random.default_rng(1).uniform(0, 255, (2, 16, 16, 3)).astype("float32")
    inference, training = (network(pixels, training=training) for training in (False, True))
    np.testing.assert_allclose(
        ops.convert_to_numpy(inference), ops.convert_to_numpy(training), rtol=1e-4
    )
