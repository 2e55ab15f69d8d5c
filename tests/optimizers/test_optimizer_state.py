"""The state of an optimizer after saving and loading, and after skipped steps."""

import keras
import numpy as np
import pytest

from keras_convnext.optimizers import LAMB, SGD, AdamW
from keras_convnext.schedules import WarmupCosine

ARGUMENTS = {
    "weight_decay": 0.1,
    "layer_decay": 0.7,
    "layer_decay_rule": "stage",
    "decay_vectors": True,
    "global_clipnorm": 1.0,
    "use_ema": True,
    "ema_momentum": 0.9,
    "gradient_accumulation_steps": 2,
}


def compiled(kind, precision, **arguments):
    policy = keras.DTypePolicy(precision)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, "tanh", dtype=policy, name="stem")]
    )
    model.add(keras.layers.Dense(2, dtype=policy))
    optimizer = kind(WarmupCosine(0.1, 20, 4), **{**ARGUMENTS, **arguments})
    if precision == "mixed_float16":
        # Keras's own first scale, 2 ** 15, makes ordinary gradients overflow.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1024.0)
    model.compile(optimizer, "mse")
    return model


def train(model, batches):
    for batch in batches:
        inputs = np.random.default_rng(batch).normal(size=(4, 3)).astype("float32")
        model.train_on_batch(inputs, inputs[:, :2] ** 2)


def values(variables):
    return [keras.ops.convert_to_numpy(variable).copy() for variable in variables]


def assert_equal(some, others):
    for one, other in zip(some, others, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
@pytest.mark.parametrize("kind", [AdamW, LAMB, SGD])
def test_training_continues_after_a_model_is_saved_and_loaded(kind, precision, tmp_path):
    model = compiled(kind, precision)
    train(model, range(5))  # two updates, and the first step of the third
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")

    optimizer, saved = loaded.optimizer, model.optimizer
    assert type(getattr(optimizer, "inner_optimizer", optimizer)) is kind
    assert optimizer.get_config() == saved.get_config()
    assert int(keras.ops.convert_to_numpy(optimizer.iterations)) == 2
    assert_equal(values(optimizer.variables), values(saved.variables))
    for trained in (model, loaded):
        train(trained, range(5, 8))
    assert_equal(values(loaded.variables), values(model.variables))


@pytest.mark.backend_free
@pytest.mark.parametrize("kind", [AdamW, LAMB, SGD])
def test_a_configuration_is_read_back(kind):
    optimizer = kind(1e-3, **ARGUMENTS)
    written = keras.optimizers.serialize(optimizer)
    again = keras.optimizers.deserialize(written)
    assert written["registered_name"] == f"keras_convnext>{kind.__name__}"
    assert type(again) is kind and again.get_config() == optimizer.get_config()
    assert {name: again.get_config()[name] for name in ARGUMENTS} == ARGUMENTS


@pytest.mark.parametrize("kind", [AdamW, LAMB, SGD])
def test_only_gradients_accumulate_before_the_last_step_of_an_update(kind):
    model = compiled(kind, "float32", gradient_accumulation_steps=3)
    train(model, range(6))  # two updates; the first of them has the rate 0
    inner = model.optimizer
    averages = [average for average, _ in inner.ema_pairs(model.trainable_variables)]

    def state():
        return values([*model.trainable_variables, *averages, inner.iterations])

    before, rate = state(), float(keras.ops.convert_to_numpy(inner.learning_rate))
    train(model, [6, 7])
    assert_equal(state(), before)
    assert float(keras.ops.convert_to_numpy(inner.learning_rate)) == rate
    train(model, [8])
    for now, then in zip(state(), before, strict=True):
        assert (now != then).any()
    assert float(keras.ops.convert_to_numpy(inner.learning_rate)) > rate


@pytest.mark.parametrize("steps", [None, 2])
@pytest.mark.parametrize("kind", [AdamW, LAMB, SGD])
def test_a_step_that_overflows_in_half_precision_is_skipped(kind, steps):
    model = compiled(kind, "mixed_float16", gradient_accumulation_steps=steps)
    train(model, range(4))
    inner = model.optimizer.inner_optimizer
    scale = float(keras.ops.convert_to_numpy(model.optimizer.dynamic_scale))
    before = values([*model.variables, *inner.variables])

    model.train_on_batch(np.ones((4, 3), "float32"), np.full((4, 2), 60_000, "float32"))

    assert float(keras.ops.convert_to_numpy(model.optimizer.dynamic_scale)) == scale / 2
    assert_equal(values([*model.variables, *inner.variables]), before)
    train(model, range(4, 6))
    for now, then in zip(values(model.trainable_variables), before, strict=False):
        assert (now != then).any()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow traces functions")
def test_a_step_that_creates_the_moments_is_traced_once_without_their_initial_values():
    import tensorflow as tf

    optimizer, variable, operations = AdamW(1e-3), keras.Variable(np.ones((3, 4))), []

    @tf.function
    def step():
        optimizer.apply([tf.ones((3, 4))], [variable])
        operations.append({op.type for op in tf.compat.v1.get_default_graph().get_operations()})

    for _ in range(2):
        step()
    # A graph with this operation initializes variables.
    assert len(operations) == 1 and "VarIsInitializedOp" not in operations[0]
