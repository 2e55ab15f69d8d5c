import keras
import numpy as np
import pytest

from keras_convnext.optimizers import LAMB, SGD, AdamW
from keras_convnext.recipe import load_recipe
from keras_convnext.runs.plan import make_plan
from keras_convnext.schedules import WarmupCosine, WarmupSteps
from keras_convnext.tasks.classification.task import CLASSIFICATION
from keras_convnext.training.optimizer import make_optimizer

IMAGENET = (1_281_167, 50_000, 1000)


def of_recipe(recipe, *sizes):
    return make_optimizer(recipe, make_plan(recipe, *sizes))


def rate_at(optimizer, update):
    """The rate in the last step of an update."""
    steps = optimizer.gradient_accumulation_steps or 1
    optimizer._iterations.assign((update + 1) * steps - 1)
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def test_the_papers_run_has_its_rates(recipes):
    optimizer = of_recipe(load_recipe(recipes / "imagenet1k/convnext_tiny.yaml"), *IMAGENET)
    last = 1e-6 + 0.5 * (4e-3 - 1e-6) * (1 + np.cos(np.pi * (1 - 1 / 87_360)))
    assert last == pytest.approx(1.0000013e-6, rel=1e-8)
    expected = {0: 0.0, 1: 4e-3 / 6239, 6239: 4e-3, 6240: 4e-3, 93_599: last}
    found = {update: rate_at(optimizer, update) for update in expected}
    assert found == pytest.approx(expected, rel=2e-7, abs=0)


def test_the_standard_resnet_has_its_rates(recipes):
    optimizer = of_recipe(load_recipe(recipes / "resnet50/standard.yaml"), *IMAGENET)
    thirty_epochs = 30 * 5_004
    for steps, rate in enumerate([0.1, 0.01, 0.001]):
        assert rate_at(optimizer, steps * thirty_epochs) == pytest.approx(rate, rel=1e-6)
        assert rate_at(optimizer, (steps + 1) * thirty_epochs - 1) == pytest.approx(rate, rel=1e-6)


@pytest.mark.backend_free
def test_the_papers_optimizer(recipes):
    optimizer = of_recipe(load_recipe(recipes / "imagenet1k/convnext_tiny.yaml"), *IMAGENET)
    assert type(optimizer) is AdamW and type(optimizer._learning_rate) is WarmupCosine
    found = optimizer.get_config()
    expected = {
        "weight_decay": 0.05,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "epsilon": 1e-8,
        "use_ema": True,
        "ema_momentum": 0.9999,
        "decay_vectors": False,
        "layer_decay": None,
        "global_clipnorm": None,
        "gradient_accumulation_steps": 32,
    }
    assert {name: found[name] for name in expected} == expected


@pytest.mark.backend_free
def test_every_setting_is_taken_over(tiny_recipe):
    recipe = tiny_recipe(
        "data.batch_size=8",
        "optimizer={weight_decay: 0.1, decay_vectors: true, beta_1: 0.8, beta_2: 0.99, "
        "epsilon: 1e-7, global_clipnorm: 5, gradient_accumulation_steps: 4, layer_decay: 0.7, "
        "layer_decay_rule: stage, ema_decay: 0.99}",
        "schedule={epochs: 10, learning_rate: 0.2, final_learning_rate: 0.01, warmup_epochs: 2}",
    )
    found = of_recipe(recipe, 24, 4, 3).get_config()
    expected = {
        "weight_decay": 0.1,
        "decay_vectors": True,
        "beta_1": 0.8,
        "beta_2": 0.99,
        "epsilon": 1e-7,
        "global_clipnorm": 5.0,
        "gradient_accumulation_steps": 4,
        "layer_decay": 0.7,
        "layer_decay_rule": "stage",
        "use_ema": True,
        "ema_momentum": 0.99,
    }
    assert {name: found[name] for name in expected} == expected
    # Three updates an epoch, each of four steps.
    schedule = {"peak": 0.2, "total_steps": 30, "warmup_steps": 6, "final": 0.01}
    assert found["learning_rate"]["config"] == schedule


@pytest.mark.backend_free
def test_sgd_with_steps(tiny_recipe):
    recipe = tiny_recipe(
        "data.batch_size=8",
        "optimizer={name: sgd, momentum: 0.8, weight_decay: 1e-4, decay_vectors: true}",
        "schedule={name: step, epochs: 10, learning_rate: 0.2, warmup_epochs: 2, step_epochs: 3, "
        "gamma: 0.5}",
    )
    optimizer = of_recipe(recipe, 24, 4, 3)
    assert type(optimizer) is SGD and type(optimizer._learning_rate) is WarmupSteps
    assert (optimizer.momentum, optimizer.weight_decay, optimizer.decay_vectors) == (
        0.8,
        1e-4,
        True,
    )
    assert (optimizer.use_ema, optimizer.gradient_accumulation_steps) == (False, None)
    schedule = {"peak": 0.2, "step_size": 9, "factor": 0.5, "warmup_steps": 6}
    assert optimizer.get_config()["learning_rate"]["config"] == schedule


@pytest.mark.backend_free
def test_lamb(tiny_recipe):
    settings = "optimizer={name: lamb, weight_decay: 0.01, beta_2: 0.99, global_clipnorm: 1}"
    optimizer = of_recipe(tiny_recipe("data.batch_size=8", settings), 24, 4, 3)
    assert type(optimizer) is LAMB
    assert (optimizer.weight_decay, optimizer.epsilon, optimizer.beta_2) == (0.01, 1e-6, 0.99)
    assert optimizer.global_clipnorm == 1


@pytest.mark.parametrize("kind", ["adamw", "lamb", "sgd"])
def test_an_update_of_several_steps_is_that_of_their_batch(tiny_recipe, kind):
    random = np.random.default_rng(0)
    images = random.normal(size=(6, 8, 4)).astype("float32")
    labels = np.eye(3, dtype="float32")[random.integers(0, 3, (6, 8))]
    weights = []
    for accumulation in (1, 4):
        recipe = tiny_recipe(
            "data.batch_size=8",
            f"optimizer={{name: {kind}, global_clipnorm: 0.5, "
            f"gradient_accumulation_steps: {accumulation}}}",
            "schedule={epochs: 2, learning_rate: 0.1, warmup_epochs: 1}",
        )
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        CLASSIFICATION.compile_model(model, recipe, make_plan(recipe, 24, 4, 3))
        size = recipe.step_batch_size
        flat = images.reshape(-1, 4), labels.reshape(-1, 3)
        model.fit(*flat, batch_size=size, shuffle=False, verbose=0)
        assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 6
        weights.append(model.get_weights())
    for whole, in_steps in zip(*weights, strict=True):
        np.testing.assert_allclose(in_steps, whole, rtol=1e-4, atol=1e-6)
