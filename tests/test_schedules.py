import keras
import numpy as np
import pytest

from keras_convnext.schedules import WarmupCosine, WarmupSteps

# 300 epochs of ImageNet-1K in batches of 4096: table 5 of the paper.
PAPER = {"peak": 4e-3, "total_steps": 93_600, "warmup_steps": 6_240, "final": 1e-6}


def rates(schedule, steps):
    steps = np.asarray(steps, "float32")
    return np.asarray(keras.ops.convert_to_numpy(schedule(steps)), "float64")


def official(peak, total_steps, warmup_steps, final):
    """The official `utils.cosine_scheduler`, in double precision."""
    length = total_steps - warmup_steps
    progress = np.arange(length) / length
    cosine = final + 0.5 * (peak - final) * (1 + np.cos(np.pi * progress))
    return np.concatenate([np.linspace(0, peak, warmup_steps), cosine])


def test_every_update_of_the_papers_run_is_the_official_one():
    found = rates(WarmupCosine(**PAPER), np.arange(93_600))
    assert found[0] == 0
    np.testing.assert_allclose(found, official(**PAPER), rtol=1e-6)


@pytest.mark.parametrize(("total", "warmup"), [(10, 0), (10, 1), (10, 2), (1, 0), (7, 6)])
def test_short_runs_are_the_official_ones(total, warmup):
    settings = {"peak": 0.1, "total_steps": total, "warmup_steps": warmup, "final": 0.01}
    found = rates(WarmupCosine(**settings), np.arange(total))
    np.testing.assert_allclose(found, official(**settings), rtol=1e-6, atol=1e-9)


def test_the_rate_stays_final_beyond_the_last_step():
    schedule = WarmupCosine(0.1, 100, 10, final=0.01)
    np.testing.assert_allclose(rates(schedule, [100, 150, 1000]), 0.01, rtol=1e-5)


@pytest.mark.parametrize(("total", "warmup"), [(10, 10), (10, 11), (10, -1)])
def test_a_warmup_as_long_as_the_run_is_refused(total, warmup):
    with pytest.raises(ValueError, match=f"Received: warmup_steps={warmup}, total_steps={total}"):
        WarmupCosine(0.1, total, warmup)


def step_lr(peak, step_size, factor, updates):
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size, gamma=factor)
    rates = []
    for _ in range(updates):
        rates += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    return np.array(rates)


@pytest.mark.parametrize("factor", [0.1, 0.5, 1.0, 0.0])
def test_steps_are_those_of_pytorch(factor):
    found = rates(WarmupSteps(0.1, 7, factor), np.arange(30))
    np.testing.assert_allclose(found, step_lr(0.1, 7, factor, 30), rtol=1e-6)


def test_a_warmup_does_not_shift_the_steps():
    found = rates(WarmupSteps(0.1, 7, warmup_steps=5), np.arange(30))
    np.testing.assert_allclose(found[:5], np.linspace(0, 0.1, 5), rtol=1e-6)
    np.testing.assert_allclose(found[5:], step_lr(0.1, 7, 0.1, 30)[5:], rtol=1e-6)


def test_steps_are_exact_in_long_runs():
    size = 30 * 5_004  # ImageNet-1K in batches of 256
    found = rates(WarmupSteps(0.1, size), [size - 1, size, 2 * size - 1, 2 * size, 3 * size - 1])
    np.testing.assert_allclose(found, [0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-6)


@pytest.mark.parametrize(
    ("size", "factor", "warmup"), [(0, 0.1, 0), (5, 0.1, -1), (5, 1.5, 0), (5, -0.1, 0)]
)
def test_other_steps_are_refused(size, factor, warmup):
    received = f"Received: step_size={size}, warmup_steps={warmup}, factor={factor}"
    with pytest.raises(ValueError, match=received):
        WarmupSteps(0.1, size, factor, warmup)


STEPS = {"peak": 0.1, "step_size": 7, "factor": 0.5, "warmup_steps": 2}


@pytest.mark.parametrize(("kind", "settings"), [(WarmupCosine, PAPER), (WarmupSteps, STEPS)])
def test_it_is_serialized_and_deserialized(kind, settings):
    schedule = kind(**settings)
    config = keras.optimizers.schedules.serialize(schedule)
    again = keras.optimizers.schedules.deserialize(config)
    assert isinstance(again, kind)
    assert again.get_config() == schedule.get_config() == settings
