import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_convnext.errors import RunError
from keras_convnext.optimizers import AdamW
from keras_convnext.runs.directory import RunDirectory
from keras_convnext.runs.plan import make_plan
from keras_convnext.tasks.classification.task import CLASSIFICATION
from keras_convnext.training.model import build_model
from keras_convnext.training.trainer import fit

CLASSES = 3


@pytest.fixture
def settings(tiny_recipe):
    return tiny_recipe(
        "data.batch_size=4",
        "optimizer.weight_decay=0.1",
        "optimizer.beta_2=0.99",
        "optimizer.global_clipnorm=5",
        "schedule.learning_rate=0.01",
        "augment={policy: keras_cv, label_smoothing: 0.2}",
    )


@pytest.fixture
def batch():
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype("float32")
    return images, np.eye(CLASSES, dtype="float32")[[0, 1, 2, 0]]


def compiled(settings):
    model = build_model(settings, CLASSES)
    CLASSIFICATION.compile_model(model, settings, make_plan(settings, 12, 4, CLASSES))
    return model


@pytest.mark.backend_free
def test_the_network_is_the_recipes(settings):
    model = build_model(settings, CLASSES)
    assert model.input_shape == (None, 16, 16, 3) and model.output_shape == (None, CLASSES)
    assert model.get_layer("stages_0_blocks_1").drop_path_rate == settings.model.drop_path_rate
    assert model.get_layer("head").activation is keras.activations.linear  # logits


@pytest.mark.backend_free
def test_a_named_network_has_its_size_and_its_name(tiny_recipe):
    settings = tiny_recipe("model={name: convnext_tiny}", "data.image_size=32")
    model = build_model(settings, 1000)
    assert (model.name, model.count_params()) == ("convnext_tiny", 28_589_128)


@pytest.mark.backend_free
def test_the_optimizer_is_the_recipes(settings):
    optimizer = compiled(settings).optimizer
    assert isinstance(optimizer, AdamW)
    assert float(optimizer.weight_decay) == pytest.approx(0.1)
    assert (optimizer.beta_2, optimizer.epsilon, optimizer.global_clipnorm) == (0.99, 1e-8, 5)
    config = optimizer.get_config()["learning_rate"]["config"]
    assert config == {"peak": 0.01, "total_steps": 6, "warmup_steps": 3, "final": 1e-6}


@pytest.mark.backend_free
def test_the_loss_takes_logits_and_smooths_the_labels(settings, batch):
    model, (images, labels) = compiled(settings), batch
    logits = model.predict_on_batch(images)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    smoothed = labels * 0.8 + 0.2 / CLASSES
    expected = -(smoothed * log_probabilities).sum(axis=-1).mean()
    assert model.test_on_batch(images, labels)[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.backend_free
def test_the_loss_leaves_targets_that_come_smoothed_as_they_are(tiny_recipe, batch):
    overrides = ("augment={policy: paper, label_smoothing: 0.2}", "data.batch_size=4")
    model, (images, labels) = compiled(tiny_recipe(*overrides)), batch
    logits = model.predict_on_batch(images)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = -(labels * log_probabilities).sum(axis=-1).mean()
    assert model.test_on_batch(images, labels)[0] == pytest.approx(expected, rel=1e-4)


@pytest.fixture
def run(tmp_path, settings):
    run = RunDirectory(tmp_path / "run")
    run.create(settings)
    return run


def test_a_model_is_fitted(settings, batch, run):
    # Any model will do; the networks' own training is tested with whole runs.
    model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.GlobalAveragePooling2D()])
    model.add(keras.layers.Rescaling(1 / 255))
    model.add(keras.layers.Dense(CLASSES))
    plan = make_plan(settings, 12, 4, CLASSES)  # three updates in each of two epochs
    CLASSIFICATION.compile_model(model, settings, plan)
    starts = []

    def epochs():
        starts.append(True)
        yield from [batch] * 6

    spec = tuple(tf.TensorSpec(part.shape, tf.float32) for part in batch)
    training = tf.data.Dataset.from_generator(epochs, output_signature=spec)
    fit(model, whole(training), whole(tf.data.Dataset.from_tensors(batch)), settings, plan, run)

    first, last = run.metrics()
    assert np.isfinite(list(first.values())).all()
    assert last["val_loss"] < first["val_loss"]
    assert run.best_model.is_file() and run.last_model.is_file()
    # KerasCV draws otherwise when its pipeline is started again, so it must not be started twice.
    assert len(starts) == 1


def whole(dataset):
    """Returns a function that returns the only shard of a dataset."""
    return lambda index, count: dataset


class Tagged(keras.callbacks.Callback):
    """A user's callback that adds what is no number to the logs."""

    def on_epoch_end(self, epoch, logs=None):
        logs["tag"], logs["of_each_class"] = f"epoch {epoch}", np.arange(3)


def test_a_run_may_end_before_its_last_epoch(tiny_recipe, batch, run, capsys):
    settings = tiny_recipe(
        "data.batch_size=4",
        "schedule.epochs=5",
        "schedule.early_stopping={patience: 2, min_delta: 1, monitor: loss}",
        "schedule.learning_rate=1e-6",
    )
    model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.GlobalAveragePooling2D()])
    model.add(keras.layers.Rescaling(1 / 255))
    model.add(keras.layers.Dense(CLASSES))
    plan = make_plan(settings, 4, 4, CLASSES)
    CLASSIFICATION.compile_model(model, settings, plan)
    weighted = tf.data.Dataset.from_tensors((*batch, np.ones(4, "float32"))).repeat()
    validation = tf.data.Dataset.from_tensors(batch)
    fit(model, whole(weighted), whole(validation), settings, plan, run, callbacks=[Tagged()])
    assert [row["tag"] for row in run.metrics()] == ["epoch 0", "epoch 1", "epoch 2"]
    assert run.metrics()[-1]["of_each_class"] == [0.0, 1.0, 2.0]
    assert run.last_model.samefile(run.checkpoints / "epoch_0003.keras")
    assert "ends after epoch 3: loss did not improve in the last 2" in capsys.readouterr().err


@pytest.mark.backend_free
def test_what_was_trained_stays_when_training_fails(settings, batch, run):
    images, labels = batch
    good = tf.data.Dataset.from_tensors((images, labels)).repeat(4)
    bad = tf.data.Dataset.from_tensors((images * np.nan, labels)).repeat()
    plan = make_plan(settings, 12, 4, CLASSES)  # three updates in each of two epochs
    with pytest.raises(
        RunError, match=r"at update 5\..* epoch 1 is complete.* lower .* --overwrite"
    ):
        batches = whole(good.concatenate(bad))
        fit(compiled(settings), batches, whole(good.take(1)), settings, plan, run)
    assert [row["epoch"] for row in run.metrics()] == [1]
    weights = keras.saving.load_model(run.last_model, compile=False).get_weights()
    assert all(np.isfinite(weight).all() for weight in weights)
