import keras
import numpy as np
import pytest

from keras_convnext.recipe import EarlyStopping
from keras_convnext.runs.early_stopping import is_over

pytestmark = pytest.mark.backend_free


def epochs_until(settings, values):
    rows = [{settings.monitor: value} for value in values]
    return next((n for n in range(1, len(rows) + 1) if is_over(settings, rows[:n])), None)


def epochs_until_keras_stops(settings, values, mode):
    stop = keras.callbacks.EarlyStopping(
        settings.monitor, settings.min_delta, settings.patience, mode=mode
    )
    stop.set_model(keras.Sequential())
    stop.model.stop_training = False
    stop.on_train_begin()
    for epoch, value in enumerate(values):
        stop.on_epoch_end(epoch, {settings.monitor: value})
        if stop.model.stop_training:
            return epoch + 1
    return None


@pytest.mark.parametrize(("monitor", "mode"), [("val_accuracy", "max"), ("val_ema_loss", "min")])
@pytest.mark.parametrize("patience", [1, 2, 4])
@pytest.mark.parametrize("min_delta", [0.0, 0.033])
def test_a_run_ends_where_keras_would_end_it(monitor, mode, patience, min_delta):
    settings = EarlyStopping(patience=patience, monitor=monitor, min_delta=min_delta)
    random = np.random.default_rng(patience)
    ends = set()
    for _ in range(50):
        values = np.round(random.normal(size=12).cumsum() / 10, 2).tolist()
        expected = epochs_until_keras_stops(settings, values, mode)
        assert epochs_until(settings, values) == expected, values
        ends.add(expected)
    assert len(ends) > 1


def test_no_metric_ends_a_run_that_is_not_to_end_early():
    assert not is_over(None, [{"val_accuracy": 0.5}] * 99)
    assert not is_over(EarlyStopping(patience=1), [])


def test_a_value_that_is_no_number_is_no_better():
    assert epochs_until(EarlyStopping(patience=2), [0.5, np.nan, np.nan, 0.6]) == 3
