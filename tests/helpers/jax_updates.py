"""Trains a toy network on some devices with JAX.

As a program, `python jax_updates.py NAME DEVICES RESULT.npz`, it may be one of several processes.
"""

import sys

import keras
import numpy as np

from keras_convnext import ConvNeXt
from keras_convnext.data.pipeline import evaluation_dataset, training_dataset
from keras_convnext.data.sources.split import ArraySplit
from keras_convnext.distribution.engine import Engine
from keras_convnext.optimizers import AdamW
from keras_convnext.recipe import Augment, Data

SIDE, BATCH, CLASSES, UPDATES, ACCUMULATED = 16, 16, 3, 20, 2
IMAGES = 103  # the last evaluation batch is not shared equally


def split():
    random = np.random.default_rng(0)
    return ArraySplit(
        random.integers(0, 256, (IMAGES, SIDE, SIDE, 3)).astype("uint8"),
        random.integers(0, CLASSES, IMAGES).astype("int32"),
        ("one", "two", "three"),
    )


def network(drop_path_rate=0.3):
    keras.utils.set_random_seed(0)
    model = ConvNeXt(
        (1, 1),
        (8, 16),
        kernel_size=3,
        input_shape=(SIDE, SIDE, 3),
        classes=CLASSES,
        classifier_activation=None,
        drop_path_rate=drop_path_rate,
        layer_scale_init_value=0.5,
    )
    optimizer = AdamW(
        1e-3,
        weight_decay=0.05,
        layer_decay=0.8,
        global_clipnorm=0.5,
        use_ema=True,
        ema_momentum=0.9,
        gradient_accumulation_steps=ACCUMULATED,
    )
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def train(engine: Engine, updates: int = UPDATES) -> dict[str, np.ndarray]:
    """Returns losses, evaluations, final weights and averages."""
    data = Data(source="digits", image_size=SIDE, batch_size=BATCH)
    augment = Augment(policy="paper", rand_augment=None, random_erasing=0.0)

    def training(index, count):
        return training_dataset(
            split(), data, augment, UPDATES, 0, 0, BATCH // ACCUMULATED, index, count
        )

    def evaluation(index, count):
        return evaluation_dataset(
            split(), SIDE, 1.0, batch_size=16, shard_index=index, num_shards=count
        )

    with engine.scope():
        model = network()
        engine.attach(model)
        history = model.fit(
            engine.training_data(training),
            steps_per_epoch=ACCUMULATED,
            epochs=updates,
            verbose=0,
            shuffle=False,
        )
        scores = model.evaluate(engine.evaluation_data(evaluation), verbose=0)
        variables = [*model.variables, *model.optimizer.variables]
        return {
            "losses": np.array(history.history["loss"]),
            "scores": np.array(scores),
            # Some names are counted on from model to model.
            **{f"{i} {v.name}": keras.ops.convert_to_numpy(v) for i, v in enumerate(variables)},
        }


def assert_same(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Compares the results of two runs of `train`."""
    for (name, one), other in zip(expected.items(), actual.values(), strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5, err_msg=name)
    assert actual["scores"][1] == expected["scores"][1]  # every image counts once
    assert np.ptp(expected["losses"]) > 0.01


if __name__ == "__main__":
    from keras_convnext.distribution.jax.engine import make_engine

    name, devices, path = sys.argv[1:]
    engine = make_engine(name, int(devices))
    results = train(engine)
    if engine.is_main:
        np.savez(path, **results)
    engine.close()
