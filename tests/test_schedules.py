import keras
import numpy as np
import pytest

from keras_convnext.schedules import WarmupCosine

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


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.0), (1, 6.411e-7), (6239, 4e-3), (6240, 4e-3), (93_599, 1.0000013e-6)],
)
def test_the_papers_rates(step, rate):
    assert rates(WarmupCosine(**PAPER), step) == pytest.approx(rate, rel=1e-4)


def test_every_update_of_the_papers_run_is_the_official_one():
    found = rates(WarmupCosine(**PAPER), np.arange(93_600))
    np.testing.assert_allclose(found, official(**PAPER), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(("total", "warmup"), [(10, 0), (10, 1), (10, 2), (1, 0), (7, 6)])
def test_short_runs_are_the_official_ones(total, warmup):
    settings = {"peak": 0.1, "total_steps": total, "warmup_steps": warmup, "final": 0.01}
    found = rates(WarmupCosine(**settings), np.arange(total))
    np.testing.assert_allclose(found, official(**settings), rtol=1e-5, atol=1e-9)


def test_a_run_that_goes_on_stays_at_the_final_rate():
    schedule = WarmupCosine(0.1, 100, 10, final=0.01)
    np.testing.assert_allclose(rates(schedule, [100, 150, 1000]), 0.01, rtol=1e-5)


@pytest.mark.parametrize(("total", "warmup"), [(10, 10), (10, 11), (10, -1)])
def test_a_warmup_as_long_as_the_run_is_refused(total, warmup):
    with pytest.raises(ValueError, match=f"Received: warmup_steps={warmup}, total_steps={total}"):
        WarmupCosine(0.1, total, warmup)


def test_it_is_serialised_and_read_back():
    schedule = WarmupCosine(**PAPER)
    config = keras.optimizers.schedules.serialize(schedule)
    again = keras.optimizers.schedules.deserialize(config)
    assert isinstance(again, WarmupCosine)
    assert again.get_config() == schedule.get_config() == PAPER
