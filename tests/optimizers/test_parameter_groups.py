import keras
import numpy as np
import pytest
from keras import layers

from keras_convnext.layers import Block
from keras_convnext.optimizers import LAMB, SGD, AdamW

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
    """Returns the weights before and after an update that weight decay alone can make."""
    for variable in variables:  # decay does not change a value of 0
        variable.assign(np.full(variable.shape, 0.7, "float32"))
    before = values(variables)
    zeros = [keras.ops.zeros(variable.shape, variable.dtype) for variable in variables]
    optimizer.apply(zeros, variables)
    return before, values(variables)


# The update is the decayed weight itself, which LAMB makes as long as the weight.
SHRUNK = {AdamW: 1 - RATE * DECAY, SGD: 1 - RATE * DECAY, LAMB: 1 - RATE}


def assert_only_kernels_shrink(optimizer, variables):
    before, after = update_without_gradients(optimizer, variables)
    for path, value in before.items():
        if value.ndim == 1:
            np.testing.assert_array_equal(after[path], value, err_msg=path)
        else:
            expected = value * SHRUNK[type(optimizer)]
            np.testing.assert_allclose(after[path], expected, rtol=1e-6, err_msg=path)


@pytest.mark.parametrize("kind", SHRUNK)
def test_only_tensors_of_several_dimensions_decay(model, kind):
    variables = model.trainable_variables
    assert {len(variable.shape) for variable in variables} == {1, 2, 4}
    assert_only_kernels_shrink(kind(RATE, weight_decay=DECAY), variables)


def test_a_model_of_vectors_alone_is_trained_without_decay():
    model = keras.Sequential([keras.Input((3,)), layers.LayerNormalization()])
    assert_only_kernels_shrink(AdamW(RATE, weight_decay=DECAY), model.trainable_variables)


@pytest.mark.parametrize("kind", SHRUNK)
def test_vectors_decay_with_decay_vectors(model, kind):
    optimizer = kind(RATE, weight_decay=DECAY, decay_vectors=True)
    before, after = update_without_gradients(optimizer, model.trainable_variables)
    for path, value in before.items():
        np.testing.assert_allclose(after[path], value * SHRUNK[kind], rtol=1e-6, err_msg=path)


def test_keras_exclusions_do_not_decay(model):
    optimizer = AdamW(RATE, weight_decay=DECAY)
    optimizer.exclude_from_weight_decay(model.trainable_variables)
    before, after = update_without_gradients(optimizer, model.trainable_variables)
    for path, value in before.items():
        np.testing.assert_array_equal(after[path], value, err_msg=path)


@pytest.mark.parametrize("kind", SHRUNK)
def test_vectors_do_learn(model, kind):
    optimizer = kind(RATE)
    variables = model.trainable_variables
    before = values(variables)
    optimizer.apply([keras.ops.ones(variable.shape) for variable in variables], variables)
    for path, after in values(variables).items():
        assert (after < before[path]).all(), path


def test_a_loaded_model_decays_as_before(model, tmp_path):
    model.compile(AdamW(RATE, weight_decay=DECAY), loss="mse")
    model.train_on_batch(np.ones((2, 4, 4, 3), "float32"), np.ones((2, 2), "float32"))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for slot in loaded.optimizer.variables[2:]:  # Adam's moments would move the weights too
        slot.assign(np.zeros(slot.shape, "float32"))
    assert_only_kernels_shrink(loaded.optimizer, loaded.trainable_variables)


@pytest.mark.backend_free
def test_defaults_are_those_of_the_papers():
    adamw, lamb, sgd = AdamW(), LAMB(), SGD()
    assert (adamw.weight_decay, adamw.epsilon) == (0.05, 1e-8)
    assert (lamb.weight_decay, lamb.epsilon) == (0.01, 1e-6)
    assert (sgd.weight_decay, sgd.momentum) == (1e-4, 0.9)
    assert (adamw.beta_1, adamw.beta_2) == (lamb.beta_1, lamb.beta_2) == (0.9, 0.999)
    rates = [float(keras.ops.convert_to_numpy(o.learning_rate)) for o in (adamw, lamb, sgd)]
    assert rates == pytest.approx([4e-3, 5e-3, 0.1])


@pytest.mark.backend_free
@pytest.mark.parametrize("kind", SHRUNK)
class TestLayerDecay:
    def test_other_rules_are_refused(self, kind):
        with pytest.raises(ValueError, match="must be one of group, block, stage.*='layer'"):
            kind(layer_decay=0.7, layer_decay_rule="layer")

    @pytest.mark.parametrize("decay", [0.0, -0.5, 1.5])
    def test_other_factors_are_refused(self, kind, decay):
        with pytest.raises(ValueError, match=rf"must lie in .* layer_decay={decay}"):
            kind(layer_decay=decay)
