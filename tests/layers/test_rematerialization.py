"""Recomputing activations, by Keras or by PyTorch, does not change the gradients."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_convnext import ConvNeXt
from keras_convnext.layers import Block, Downsampling, Stem

BACKEND = keras.backend.backend()
only_torch = pytest.mark.skipif(BACKEND != "torch", reason="this is PyTorch's checkpointing")
NAMES = ["stem", "stages_0_blocks_0", "stages_1_downsampling", "stages_1_blocks_0"]
SCOPES = {
    "full": {"mode": "full"},
    "list_of_layers": {"mode": "list_of_layers", "layer_names": NAMES},
    "larger_than": {"mode": "larger_than", "output_size_threshold": 300},
    "activations": {"mode": "activations"},
}
# In TensorFlow's graphs Keras 3.15 cannot recompute its own layers that take `training`, such as
# the head's; compiling the network for every mode takes the other two long.
USABLE = {
    "jax": ["full", "list_of_layers", "larger_than"],
    "tensorflow": ["list_of_layers", "larger_than"],
    "torch": list(SCOPES),
}[BACKEND]
IMAGES = np.random.default_rng(0).uniform(0, 255, (3, 20, 24, 3)).astype("float32")
TARGETS = np.eye(3, dtype="float32")


def network(scope=None):
    keras.utils.set_random_seed(4)
    with keras.RematScope(**(scope or {"mode": None})):
        model = ConvNeXt(
            (1, 1),
            (4, 6),
            kernel_size=3,
            input_shape=(20, 24, 3),
            classes=3,
            drop_path_rate=0.5,
            layer_scale_init_value=0.5,
        )
    model.compile(keras.optimizers.SGD(0.5), "categorical_crossentropy")
    return model


@pytest.fixture(scope="module")
def trained():
    """The weights after three steps without recomputation, and the first losses."""
    model = network()
    before = model.get_weights()
    losses = [float(model.train_on_batch(IMAGES, TARGETS)) for _ in range(3)]
    return before, losses, model.get_weights()


@pytest.mark.parametrize("mode", USABLE)
def test_training_is_the_same_in_every_mode_of_the_scope(mode, trained):
    before, losses, after = trained
    model = network(SCOPES[mode])
    model.set_weights(before)
    assert [float(model.train_on_batch(IMAGES, TARGETS)) for _ in range(3)] == pytest.approx(losses)
    for weight, value, start in zip(model.get_weights(), after, before, strict=True):
        np.testing.assert_allclose(weight, value, rtol=1e-4, atol=1e-5)
        assert np.any(value != start)


def test_a_branch_is_recomputed_in_the_backward_pass(monkeypatch):
    calls = []
    branch = Block._branch

    def counted(block, inputs, training):
        calls.append(1)
        return branch(block, inputs, training)

    monkeypatch.setattr(Block, "_branch", counted)
    with keras.RematScope("full"):
        block = Block(3)
    block.build((None, 5, 5, 3))
    images = ops.convert_to_tensor(IMAGES[:, :5, :5])
    if BACKEND == "jax":
        import jax

        jaxpr = str(jax.make_jaxpr(lambda x: block(x, training=True))(images))
        assert "checkpoint" in jaxpr or "remat" in jaxpr
        return
    if BACKEND == "torch":
        block(images.requires_grad_(), training=True).sum().backward()
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            result = tf.reduce_sum(block(images, training=True))
        assert len(calls) == 1
        tape.gradient(result, block.trainable_variables[0].value)
    assert len(calls) == 2


@only_torch
@pytest.mark.parametrize("preserve", [True, False])
@pytest.mark.parametrize("reentrant", [True, False])
def test_pytorchs_checkpointing_gives_the_same_gradients(reentrant, preserve):
    """Of several calls before the backward passes, each with its own draws."""
    import torch
    from torch.utils.checkpoint import checkpoint

    def layers(x):
        for layer in (stem, block, downsampling):
            x = layer(x, training=True)
        return x

    def run(function):
        block.stochastic_depth.seed_generator.state.assign([3, 4])
        stem.zero_grad(), block.zero_grad(), downsampling.zero_grad()
        images = torch.tensor(IMAGES / 255, requires_grad=True)
        results = [function(images), function(images * 2)]
        for result in results:  # in the order of the calls, which a stack would not repeat
            result.square().sum().backward()
        weights = [w for layer in (stem, block, downsampling) for w in layer.trainable_weights]
        gradients = [images.grad, *(w.value.grad for w in weights)]
        return [x.detach().clone() for x in (*results, *gradients)]

    stem, downsampling = Stem(4, 2), Downsampling(5)
    block = Block(3, drop_path_rate=0.5, layer_scale_init_value=0.5)
    layers(torch.tensor(IMAGES))
    expected = run(layers)
    options = {"use_reentrant": reentrant, "preserve_rng_state": preserve}

    if not preserve:
        with pytest.raises(ValueError, match="preserve_rng_state=True"):
            run(lambda x: checkpoint(layers, x, **options))
        return
    for result, truth in zip(
        run(lambda x: checkpoint(layers, x, **options)), expected, strict=True
    ):
        torch.testing.assert_close(result, truth)


@pytest.mark.skipif(BACKEND != "jax", reason="on others `training` is not traced")
def test_a_traced_training_is_refused_only_by_layers_that_draw():
    import jax

    images = ops.convert_to_tensor(IMAGES[:, :5, :5])
    for layer in (Stem(4), Downsampling(4), Block(3)):
        layer(images)  # builds it
        jax.jit(lambda x, training, layer=layer: layer(x, training=training))(images, True)
    with pytest.raises(ValueError, match="close over the value"):
        block = Block(3, drop_path_rate=0.1)
        jax.jit(lambda x, training: block(x, training=training))(images, True)
