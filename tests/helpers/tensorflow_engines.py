"""Trains a toy network with the engines of TensorFlow; prints the results as JSON.

Without TF_CONFIG: on 1, 2 and 4 CPU devices of this process. With it: as one of several processes.
"""

import functools
import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from keras_convnext import ConvNeXt
from keras_convnext.data.pipeline import evaluation_dataset, training_dataset
from keras_convnext.data.sources.split import ArraySplit
from keras_convnext.distribution.engine import Engine
from keras_convnext.distribution.tensorflow.engine import make_engine
from keras_convnext.optimizers import AdamW
from keras_convnext.recipe import Augment, Data

SIZE, CLASSES, EPOCHS, STEPS = 16, 8, 5, 8  # two steps an update: 20 updates


def split(images):
    random = np.random.default_rng(images)
    pixels = random.integers(0, 256, (images, SIZE, SIZE, 3), dtype="uint8")
    return ArraySplit(pixels, random.integers(0, CLASSES, images, "int32"), tuple("abcdefgh"))


def training(index, count, start=0):
    data = Data(source="digits", image_size=SIZE, batch_size=16)
    augment = Augment(mixup_alpha=0.8, cutmix_alpha=1.0, mix_probability=1.0)
    sharing = {"shard_index": index, "num_shards": count, "step_batch_size": 8}
    return training_dataset(split(64), data, augment, EPOCHS, seed=3, start=start, **sharing)


def evaluation(index, count, images=103):
    sharing = {"shard_index": index, "num_shards": count}
    return evaluation_dataset(split(images), SIZE, 1.0, batch_size=64, **sharing)


def build(engine):
    keras.utils.set_random_seed(0)
    with engine.scope():
        model = ConvNeXt(
            (2,),
            (8,),
            kernel_size=3,
            input_shape=(SIZE, SIZE, 3),
            classes=CLASSES,
            classifier_activation=None,
            layer_scale_init_value=0.5,
            drop_path_rate=0.3,
        )
        model.compile(
            AdamW(
                3e-3,
                layer_decay=0.5,
                layer_decay_rule="block",
                global_clipnorm=0.5,
                gradient_accumulation_steps=2,
                use_ema=True,
                ema_momentum=0.9,
            ),
            keras.losses.CategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    engine.attach(model)
    return model


def state(model):
    variables = [*model.trainable_variables, *model.optimizer.variables]
    variables += [x.seed_generator.state for x in seeded(model)]
    return [float(x) for v in variables for x in np.ravel(keras.ops.convert_to_numpy(v))]


def seeded(model):
    blocks = (getattr(layer, "drop_path", None) for layer in model.layers)
    return [x for x in blocks if getattr(x, "seed_generator", None) is not None]


def whole_run(engine):
    """Returns the logs of a whole run and the state at its end."""
    model = build(engine)
    history = model.fit(
        engine.training_data(training),
        validation_data=engine.evaluation_data(evaluation),
        epochs=EPOCHS,
        steps_per_epoch=STEPS,
        shuffle=False,
        verbose=0,
    ).history
    return model, [history[name] for name in sorted(history)], state(model)


def evaluations(engine, model):
    """Returns the figures for numbers of images that do not divide evenly, or are too few."""
    return [
        model.evaluate(engine.evaluation_data(functools.partial(evaluation, images=n)), verbose=0)
        for n in (103, 66, 3)
    ]


def steps(engine, model, start, count):
    data = engine.training_data(functools.partial(training, start=start))
    model.fit(data, steps_per_epoch=count, shuffle=False, verbose=0)


def continued(engine, path):
    """Returns the state three steps after a saved one."""
    with engine.scope():
        model = keras.saving.load_model(path)
    engine.attach(model)
    steps(engine, model, 3, 3)
    return state(model)


def on_devices(directory):
    four, two, one = make_engine(devices=4), make_engine(devices=2), Engine()
    results = {}
    for name, engine in {"1": one, "2": two, "4": four}.items():
        model, logs, variables = whole_run(engine)
        figures = evaluations(engine, model)
        results[name] = {"logs": logs, "state": variables, "evaluations": figures}
    for name, engine in {"one": one, "two": two}.items():
        model = build(engine)
        steps(engine, model, 0, 3)
        model.save(f"{directory}/{name}.keras")  # within an update
        if engine is one:
            steps(engine, model, 3, 3)
            results["1 on"] = state(model)
    results["2 then 1"] = continued(one, f"{directory}/two.keras")
    results["1 then 2"] = continued(two, f"{directory}/one.keras")
    return results


def as_process(directory):
    engine = make_engine(timeout=60)
    value = {"rank": engine.rank, "text": "x" * (1000 * engine.rank)}
    gathered = engine.gather(value)
    assert [len(x["text"]) for x in gathered] == [1000 * i for i in range(engine.processes)]
    assert engine.broadcast(value)["rank"] == 0
    model, logs, variables = whole_run(engine)
    if engine.is_main:
        model.save(f"{directory}/alone.keras")  # one process alone, after an update
    engine.gather(None)
    figures = evaluations(engine, model)
    return {"logs": logs, "state": variables, "evaluations": figures, "is": engine.describe()}


if __name__ == "__main__":
    run = as_process if "TF_CONFIG" in os.environ else on_devices
    print(json.dumps(run(sys.argv[1])), flush=True)
