import keras
import numpy as np
import pytest
from keras import layers

import keras_convnext
from keras_convnext.layers import Block
from keras_convnext.optimizers import AdamW
from keras_convnext.schedules import WarmupCosine

RATE, DECAY = 0.1, 0.05


@pytest.fixture
def model():
    """A network with a tensor of every kind: 4, 2 and 1 dimensions."""
    return keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            Block(kernel_size=3, layer_scale_init_value=0.5),
            layers.GlobalAveragePooling2D(),
            layers.LayerNormalization(),
            layers.Dense(2),
        ]
    )


def values(variables):
    return {variable.path: keras.ops.convert_to_numpy(variable).copy() for variable in variables}


def update_without_gradients(optimizer, variables):
    zeros = [keras.ops.zeros(variable.shape, variable.dtype) for variable in variables]
    optimizer.apply_gradients(zip(zeros, variables, strict=True))


def assert_nearly(actual, expected, name):
    actual, expected = keras.ops.convert_to_numpy(actual), expected.numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6, err_msg=name)


def assert_only_kernels_shrink(optimizer, variables):
    for variable in variables:  # no value may be 0, or decay could not be seen
        variable.assign(np.full(variable.shape, 0.7, "float32"))
    before = values(variables)
    update_without_gradients(optimizer, variables)
    for path, after in values(variables).items():
        if after.ndim == 1:
            np.testing.assert_array_equal(after, before[path], err_msg=path)
        else:
            expected = before[path] * (1 - RATE * DECAY)
            np.testing.assert_allclose(after, expected, rtol=1e-6, err_msg=path)


def test_only_tensors_of_several_dimensions_decay(model):
    variables = model.trainable_variables
    assert {len(variable.shape) for variable in variables} == {1, 2, 4}
    assert_only_kernels_shrink(AdamW(RATE, weight_decay=DECAY), variables)


def test_a_model_of_vectors_alone_is_trained_without_decay():
    model = keras.Sequential([keras.Input((3,)), layers.LayerNormalization()])
    assert_only_kernels_shrink(AdamW(RATE, weight_decay=DECAY), model.trainable_variables)


def test_vectors_do_learn(model):
    optimizer = AdamW(RATE)
    variables = model.trainable_variables
    before = values(variables)
    ones = [keras.ops.ones(variable.shape) for variable in variables]
    optimizer.apply_gradients(zip(ones, variables, strict=True))
    for path, after in values(variables).items():
        assert (after < before[path]).all(), path


def test_defaults_are_the_papers():
    optimizer = AdamW()
    assert (float(optimizer.weight_decay), optimizer.epsilon) == (0.05, 1e-8)
    assert (optimizer.beta_1, optimizer.beta_2) == (0.9, 0.999)
    assert float(keras.ops.convert_to_numpy(optimizer.learning_rate)) == pytest.approx(4e-3)


def test_it_is_serialised_and_read_back():
    optimizer = AdamW(WarmupCosine(1e-3, 100, 10), weight_decay=0.1, global_clipnorm=1.0)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(again, AdamW)
    assert again.get_config() == optimizer.get_config()


def test_it_decays_alike_after_a_model_is_saved_and_loaded(model, tmp_path):
    model.compile(AdamW(RATE, weight_decay=DECAY), loss="mse")
    model.train_on_batch(np.ones((2, 4, 4, 3), "float32"), np.ones((2, 2), "float32"))
    model.save(tmp_path / "model.keras")

    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, AdamW)
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert int(keras.ops.convert_to_numpy(loaded.optimizer.iterations)) == 1
    for slot in loaded.optimizer.variables[2:]:  # Adam's averages would move the weights too
        slot.assign(np.zeros(slot.shape, "float32"))
    assert_only_kernels_shrink(loaded.optimizer, loaded.trainable_variables)


class TestLayerDecay:
    """Depths 1, 1, 4, 1: the stem, five groups of blocks, and the head."""

    SCALES = (
        ("stem/", 0.8**6),
        ("stages_0_", 0.8**5),
        ("stages_1_", 0.8**4),
        ("stages_2_blocks_3/", 0.8**2),
        ("stages_2_", 0.8**3),
        ("stages_3_", 0.8**1),
        ("head", 1.0),
    )

    @pytest.fixture
    def network(self):
        return keras_convnext.ConvNeXt(
            (1, 1, 4, 1), (2, 4, 6, 8), kernel_size=3, input_shape=(32, 32, 3), classes=3
        )

    def scale(self, path):
        return next(scale for start, scale in self.SCALES if path.startswith(start))

    def test_fifty_updates_are_those_of_pytorch_with_the_same_groups(self, network):
        import torch

        random = np.random.default_rng(0)
        ours = network.trainable_variables
        for variable in ours:
            variable.assign(random.normal(size=variable.shape))
        theirs = {
            v.path: torch.nn.Parameter(torch.tensor(keras.ops.convert_to_numpy(v).copy()))
            for v in ours
        }
        groups = [
            {
                "params": [parameter],
                "lr": 0.01 * self.scale(path),
                "weight_decay": 0.3 if parameter.dim() > 1 else 0.0,
            }
            for path, parameter in theirs.items()
        ]
        reference = torch.optim.AdamW(groups, eps=1e-8)
        averages = {path: parameter.detach().clone() for path, parameter in theirs.items()}
        optimizer = AdamW(0.01, weight_decay=0.3, layer_decay=0.8, use_ema=True, ema_momentum=0.95)
        for _ in range(50):
            # Small ones too, which epsilon is felt by.
            gradients = {
                path: random.normal(size=p.shape) * 10 ** random.uniform(-8, 0, p.shape)
                for path, p in theirs.items()
            }
            for path, parameter in theirs.items():
                parameter.grad = torch.tensor(gradients[path].astype("float32"))
            reference.step()
            for path, parameter in theirs.items():
                averages[path] = 0.95 * averages[path] + 0.05 * parameter.detach()
            as_tensors = [keras.ops.convert_to_tensor(gradients[v.path], "float32") for v in ours]
            optimizer.apply(as_tensors, ours)
        for variable in ours:
            assert_nearly(variable, theirs[variable.path].detach(), variable.path)
        for average, variable in optimizer.averages(ours):
            assert_nearly(average, averages[variable.path], f"average of {variable.path}")

    def test_it_is_serialised_and_read_back(self):
        optimizer = AdamW(1e-3, layer_decay=0.7, layer_decay_rule="stage")
        again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
        assert again.get_config() == optimizer.get_config()
        assert (again.layer_decay, again.layer_decay_rule) == (0.7, "stage")

    def test_other_rules_are_refused(self):
        with pytest.raises(ValueError, match="must be one of group, block, stage.*='layer'"):
            AdamW(layer_decay=0.7, layer_decay_rule="layer")

    @pytest.mark.parametrize("decay", [0.0, -0.5, 1.5])
    def test_other_factors_are_refused(self, decay):
        with pytest.raises(ValueError, match=rf"must lie in .* layer_decay={decay}"):
            AdamW(layer_decay=decay)
