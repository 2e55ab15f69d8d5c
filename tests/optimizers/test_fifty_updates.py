"""Updates with given gradients, so that only the optimizers can differ."""

import keras
import numpy as np
import pytest
import torch
from references import KINDS, Reference, to_torch, warmup_cosine

import keras_convnext
from keras_convnext.schedules import WarmupCosine

DECAY, AVERAGE_DECAY = 0.3, 0.95
# Depths 1, 1, 4, 1: the stem, five groups of blocks, and the head.
SCALES = (
    ("stem/", 0.8**6),
    ("stages_0_", 0.8**5),
    ("stages_1_", 0.8**4),
    ("stages_2_blocks_3/", 0.8**2),
    ("stages_2_", 0.8**3),
    ("stages_3_", 0.8**1),
    ("head", 1.0),
)


def scale(path):
    return next(scale for start, scale in SCALES if path.startswith(start))


@pytest.fixture
def variables():
    """A kernel and a vector of every layer that has both, of a network with all groups."""
    network = keras_convnext.ConvNeXt(
        (1, 1, 4, 1), (2, 4, 6, 8), kernel_size=3, input_shape=(32, 32, 3), classes=3
    )
    convolutions = ("conv/kernel", "conv/bias", "head/kernel", "head/bias")
    chosen = [v for v in network.trainable_variables if v.path.endswith(convolutions)]
    random = np.random.default_rng(0)
    for variable in chosen:
        variable.assign(random.normal(size=variable.shape))
    return chosen


def gradients_like(variables, random):
    # Small ones too, for which epsilon matters.
    return [
        (random.normal(size=v.shape) * 10 ** random.uniform(-8, 0, v.shape)).astype("float32")
        for v in variables
    ]


def eager(optimizer, variables):
    return lambda gradients: optimizer.apply(
        [keras.ops.convert_to_tensor(gradient) for gradient in gradients], variables
    )


def compiled(optimizer, variables):
    """Returns `optimizer.apply` as `model.fit` compiles it, on PyTorch not at all."""
    optimizer.build(variables)
    if keras.backend.backend() == "torch":
        return eager(optimizer, variables)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(lambda gradients: optimizer.apply(gradients, variables))
    import jax

    stateless = jax.jit(optimizer.stateless_apply)

    def apply(gradients):
        state = [variable.value for variable in optimizer.variables]
        results = stateless(state, gradients, [variable.value for variable in variables])
        for moved, values in zip((variables, optimizer.variables), results, strict=True):
            for variable, value in zip(moved, values, strict=True):
                variable.assign(value)

    return apply


def assert_nearly(actual, expected, name, rtol=1e-5, atol=1e-6):
    actual, expected = keras.ops.convert_to_numpy(actual), expected.detach().numpy()
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol, err_msg=name)


def assert_same_updates(
    apply_of, variables, kind, updates, steps=1, rate=None, clip_norm=None, **tolerance
):
    """Applies the same gradients to both, and compares the weights and their EMA."""
    ours, _, arguments, _ = KINDS[kind]
    schedule = 0.01 if rate is None else WarmupCosine(0.01, updates, 10)
    rate = rate or (lambda update: 0.01)
    optimizer = ours(
        schedule,
        weight_decay=DECAY,
        layer_decay=0.8,
        use_ema=True,
        ema_momentum=AVERAGE_DECAY,
        gradient_accumulation_steps=steps if steps > 1 else None,
        global_clipnorm=clip_norm,
        **arguments,
    )
    reference = Reference(
        kind,
        [to_torch(variable) for variable in variables],
        DECAY,
        AVERAGE_DECAY,
        scales=[scale(variable.path) for variable in variables],
        clip_norm=clip_norm,
    )
    apply = apply_of(optimizer, variables)
    random = np.random.default_rng(1)
    for update in range(updates):
        gradients = [gradients_like(variables, random) for _ in range(steps)]
        losses = [
            sum(
                (parameter * torch.tensor(gradient)).sum()
                for parameter, gradient in zip(reference.parameters, step, strict=True)
            )
            for step in gradients
        ]
        reference.update(losses, rate(update))
        for step in gradients:
            apply(step)
    assert int(keras.ops.convert_to_numpy(optimizer.iterations)) == updates
    for variable, parameter in zip(variables, reference.parameters, strict=True):
        assert_nearly(variable, parameter, variable.path, **tolerance)
    averages = optimizer.ema_pairs(variables)
    for (average, variable), expected in zip(averages, reference.averages(), strict=True):
        assert_nearly(average, expected, f"average of {variable.path}", **tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_one_update_is_that_of_pytorch(variables, kind):
    for variable in variables:  # of weights of 0 an update shows all its digits
        variable.assign(np.zeros(variable.shape))
    assert_same_updates(eager, variables, kind, updates=1, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_ten_updates_are_those_of_pytorch(variables, kind):
    assert_same_updates(eager, variables, kind, updates=10)


@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("kind", ["adamw", "lamb", "sgd"])
def test_fifty_updates_of_four_steps_with_a_schedule_are_those_of_pytorch(
    variables, kind, clip_norm
):
    assert_same_updates(
        compiled,
        variables,
        kind,
        updates=50,
        steps=4,
        rate=lambda update: warmup_cosine(update, 0.01, 50, 10),
        clip_norm=clip_norm,
    )
