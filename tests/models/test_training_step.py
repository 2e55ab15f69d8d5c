"""The network trains with Keras's own `fit`, on every backend and in mixed precision."""

import keras
import numpy as np
import pytest
from small_models import trainable

import keras_convnext


def snapshot(model):
    return {weight.path: np.array(weight) for weight in model.trainable_weights}


@pytest.mark.parametrize("dtype_policy", ["float32", "mixed_bfloat16"], indirect=True)
def test_fit_trains_every_weight(small, images, dtype_policy):
    model = trainable(small)
    data, labels = images(12, 16, 16, 3), np.arange(12) % 3
    before = snapshot(model)

    one_step = model.fit(data[:4], labels[:4], batch_size=4, verbose=0)
    one_epoch = model.fit(data, labels, batch_size=4, verbose=0)

    assert np.isfinite([*one_step.history["loss"], *one_epoch.history["loss"]]).all()
    assert model.optimizer.iterations == 4
    after = snapshot(model)
    assert [path for path in after if np.array_equal(before[path], after[path])] == []
    layer_scales = [weight for weight in model.weights if "layer_scale" in weight.path]
    assert [weight.dtype for weight in layer_scales] == ["float32"] * 2


@pytest.mark.parametrize(
    "dtype_policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"], indirect=True
)
@pytest.mark.usefixtures("no_weights")
def test_what_half_precision_would_spoil_stays_in_float32(small, dtype_policy):
    model = keras_convnext.ConvNeXt(**small, input_shape=(16, 16, 3))

    scales = [weight for weight in model.weights if "layer_scale" in weight.path]
    assert [weight.dtype for weight in scales] == ["float32"] * 2
    assert model.get_layer("pixel_normalization").compute_dtype == "float32"
    assert model.get_layer("stages_1_blocks_0").output.dtype in ("bfloat16", "float16")
    assert model.get_layer("head").output.dtype == "float32"


@pytest.mark.parametrize("dtype_policy", ["mixed_bfloat16"], indirect=True)
def test_probabilities_are_float32_in_mixed_precision(small, images, dtype_policy):
    model = keras_convnext.ConvNeXt(**small, classes=3, input_shape=(16, 16, 3))

    probabilities = model.predict(images(2, 16, 16, 3), verbose=0)

    assert probabilities.dtype == "float32"
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-6)


def test_two_runs_with_one_seed_are_equal_to_the_bit(small, images):
    data, labels = images(8, 16, 16, 3), np.arange(8) % 3

    def run():
        keras.utils.set_random_seed(1)
        model = trainable(small)
        model.fit(data, labels, batch_size=4, epochs=2, shuffle=False, verbose=0)
        return model.get_weights()

    for first, second in zip(run(), run(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_stochastic_depth_acts_while_training_and_only_then(small, images):
    model = trainable(small)
    data, labels = images(8, 16, 16, 3), np.arange(8) % 3
    model.optimizer.learning_rate = 0.0
    model.optimizer.weight_decay = 0.0

    losses = model.fit(data, labels, batch_size=8, epochs=3, verbose=0).history["loss"]

    assert len(set(losses)) > 1
    assert len({model.evaluate(data, labels, batch_size=8, verbose=0) for _ in range(2)}) == 1


def test_transfer_learning_trains_a_new_head_on_a_frozen_backbone(small, images):
    backbone = keras_convnext.ConvNeXt(
        **small, include_top=False, pooling="avg", drop_path_rate=0.5
    )
    backbone.trainable = False
    inputs = keras.Input((16, 16, 3))
    outputs = keras.layers.Dense(3, activation="softmax")(backbone(inputs, training=False))
    model = keras.Model(inputs, outputs)
    model.compile("adam", "sparse_categorical_crossentropy")
    backbone_before, head_before = backbone.get_weights(), model.layers[-1].get_weights()

    model.fit(images(4, 16, 16, 3), np.arange(4) % 3, batch_size=4, verbose=0)

    assert len(model.trainable_weights) == 2
    for before, after in zip(backbone_before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    for before, after in zip(head_before, model.layers[-1].get_weights(), strict=True):
        assert not np.array_equal(before, after)
