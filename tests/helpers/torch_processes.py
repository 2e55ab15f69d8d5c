"""Training on PyTorch that gives the same results in one process and in several.

The test calls `run_checks` in its own process, and runs this file under torchrun in others:

    torchrun --nproc-per-node 2 torch_processes.py FOLDER
    python torch_processes.py FOLDER 4

The second command starts the processes itself, which takes less time: they import Keras together.
The folder has the batches of each process, `batches_{processes}_{rank}.npz`, and gets the results,
`results_{processes}_{rank}.pkl`.
"""

import copy
import os
import pickle
import random
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import torch
from local_processes import environments
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, TensorDataset

from keras_convnext.callbacks import EMAEvaluation
from keras_convnext.distribution.engine import Engine
from keras_convnext.distribution.torch.data_parallel import data_parallel, detach
from keras_convnext.distribution.torch.engine import make_engine
from keras_convnext.distribution.torch.variables import copy_from_first_process
from keras_convnext.errors import UserError
from keras_convnext.layers import Block
from keras_convnext.optimizers import AdamW

SIZE, CLASSES, STEP_BATCH, STEPS, EVALUATED = 16, 8, 8, 40, 103


def classifier(drop_path_rate=0.3, extra_weights=False):
    """Returns a network of few weights with the names of ours."""
    random.seed(1)  # Keras takes its seeds from there; its own function would import TensorFlow
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 4, strides=4, name="stem")(inputs)
    for number in range(2):
        name = f"stages_0_blocks_{number}"
        x = Block(3, drop_path_rate, layer_scale_init_value=0.5, name=name)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    if extra_weights:
        x = WithUnusedWeight()(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, name="head")(x), name="toy")


@keras.saving.register_keras_serializable("tests")
class WithUnusedWeight(keras.layers.Layer):
    """Returns its inputs, whatever its weight."""

    def build(self, input_shape):
        self.unused = self.add_weight(name="unused", shape=(3,))

    def call(self, inputs):
        return inputs


def compiled(model, optimizer=None, attach=True, **settings):
    if optimizer is None:
        optimizer = AdamW(1e-2, gradient_accumulation_steps=2)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    metrics = ["accuracy", keras.metrics.F1Score()]
    model.compile(optimizer, loss, metrics=metrics, **settings)
    if attach:
        data_parallel(model)
    return model


def weights(model):
    return [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]


class Logs(keras.callbacks.Callback):
    """Keeps the logs of every step."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append([float(logs["loss"]), float(logs["accuracy"])])


class Checks:
    """What is trained. Every public method returns what must not depend on the processes."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        batches = np.load(folder / f"batches_{engine.processes}_{engine.rank}.npz")
        self.images, self.targets = batches["images"] / 128 - 1, batches["targets"]
        self.share = STEP_BATCH // engine.processes

    def fit(self, model, steps, **arguments):
        """Trains on the first steps; returns the logs of each, and the weights."""
        logs = Logs()
        count = steps * self.share
        history = model.fit(
            self.images[:count],
            self.targets[:count],
            batch_size=self.share,
            shuffle=False,
            verbose=0,
            callbacks=[logs, *arguments.pop("callbacks", [])],
            **arguments,
        )
        return {"logs": logs.steps, "weights": weights(model), "epochs": history.history}

    def evaluation_data(self, count):
        """Returns this process's part of a number of images; some processes may have none."""
        generator = np.random.default_rng(5)
        images = generator.uniform(-1, 1, (count, SIZE, SIZE, 3)).astype("float32")
        targets = np.eye(CLASSES, dtype="float32")[generator.integers(0, CLASSES, count)]
        own = slice(self.engine.rank, None, self.engine.processes)
        data = TensorDataset(torch.from_numpy(images[own]), torch.from_numpy(targets[own]))
        return DataLoader(data, batch_size=5)

    def everything(self):
        optimizer = AdamW(
            1e-2,
            gradient_accumulation_steps=2,
            use_ema=True,
            ema_momentum=0.9,
            layer_decay=0.8,
            layer_decay_rule="block",
            global_clipnorm=0.5,
        )
        model = compiled(classifier(), optimizer)
        evaluated = self.evaluation_data(EVALUATED)
        result = self.fit(
            model,
            STEPS,
            validation_data=evaluated,
            callbacks=[EMAEvaluation(self.evaluation_data(EVALUATED))],
        )
        result["ema"] = [
            keras.ops.convert_to_numpy(average)
            for average, _ in optimizer.ema_pairs(model.trainable_variables)
        ]
        few = self.evaluation_data(3)
        result["few"] = model.evaluate(few, verbose=0, return_dict=True)
        result["few_in_order"] = model.evaluate(few, verbose=0)
        return result

    def an_optimizer_of_keras(self):
        optimizer = keras.optimizers.AdamW(1e-2, gradient_accumulation_steps=2)
        return self.fit(compiled(classifier(), optimizer), 6)

    def recomputed_activations(self):
        with keras.RematScope("full"):
            model = classifier()
        return self.fit(compiled(model), 6)

    def loss_scaling(self):
        """The last image of a step overflows, which the process with rank 0 has."""
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = compiled(classifier())
        finally:
            keras.config.set_dtype_policy("float32")
        before = self.images
        if self.engine.is_main:
            self.images = self.images.copy()
            self.images[3 * self.share - 1] = np.inf
        result = self.fit(model, 6)
        self.images = before
        optimizer = model.optimizer
        result["scale"] = float(optimizer.dynamic_scale)
        result["steps"] = int(optimizer.inner_optimizer.accumulated_steps())
        return result

    def a_head_and_then_all(self):
        """Other weights are trained after `compile` has been called again."""
        model = classifier()
        for layer in model.layers:
            layer.trainable = layer.name == "head"
        head = self.fit(compiled(model), 4)
        model.trainable = True
        for layer in model.layers:
            layer.trainable = True
        return {"head": head, "all": self.fit(compiled(model, attach=False), 4)}

    def an_unused_weight(self):
        model = compiled(classifier(extra_weights=True), attach=False)
        data_parallel(model, find_unused_parameters=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Gradients do not exist")
            return self.fit(model, 4)

    def other_weights_in_each_process(self):
        """Those of the process with rank 0 count."""
        model = classifier()
        if self.engine.rank > 0:
            for variable in model.variables:
                variable.assign(variable + 1)
        return self.fit(compiled(model), 2)

    def saving(self):
        """Returns how far the copies of a model in training are from it."""
        model = classifier()
        config = model.get_config()
        self.fit(compiled(model), 2)
        path = self.folder / f"{self.engine.processes}_{self.engine.rank}.keras"
        model.save(path)
        copies = [keras.models.load_model(path), copy.deepcopy(model)]
        copies.append(pickle.loads(pickle.dumps(model)))
        images = self.images[:4]
        expected = model.predict(images, verbose=0)
        same = [np.array_equal(one.predict(images, verbose=0), expected) for one in copies]
        left = [name for name in ("call", "zero_grad") if name in vars(model)]
        return {"same": same, "config": model.get_config() == config, "left": left}


class ChecksOfSeveral(Checks):
    """What has a meaning only in several processes."""

    def gradients_sent(self):
        """Returns the bytes of gradients, those sent in each step, and those of metrics."""
        model = compiled(classifier())
        self.fit(model, 1)  # PyTorch arranges its buckets
        self.fit(model, 1)
        sent = []
        for _ in range(2):
            with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
                model.train_on_batch(self.images[: self.share], self.targets[: self.share])
            sent.append(
                [
                    int(np.prod(event.input_shapes[0]))
                    for event in profiled.events()
                    if event.name == "gloo:all_reduce"
                ]
            )
        count = sum(weight.size for weight in weights(model))
        states = sum(np.prod(variable.shape) for variable in model.metrics_variables)
        return {"sent": sent, "gradients": count, "metrics": int(states)}

    def detached(self):
        model = compiled(classifier())
        together = self.fit(model, 2)
        detach(model)
        left = [name for name in vars(model) if name in ("train_step", "evaluate", "call")]
        return {"together": together, "alone": self.fit(model, 2), "left": left}

    def statistics(self):
        """Returns BatchNorm's before and after an evaluation."""
        random.seed(1)
        norm = keras.layers.BatchNormalization()
        pool = keras.layers.GlobalAveragePooling2D()
        head = keras.layers.Dense(CLASSES)
        model = compiled(keras.Sequential([keras.Input((SIZE, SIZE, 3)), norm, pool, head]))
        self.fit(model, 2)
        before = keras.ops.convert_to_numpy(norm.moving_mean).copy()
        model.evaluate(self.evaluation_data(3), verbose=0)
        return before, keras.ops.convert_to_numpy(norm.moving_mean).copy()

    def between_processes(self):
        engine = self.engine
        variable = keras.Variable(float(engine.rank))
        copy_from_first_process([variable])
        return {
            "broadcast": engine.broadcast({"of": (engine.rank, None)}),
            "gathered": engine.gather(engine.rank),
            "copied": variable.numpy().item(),
            "training": engine.training_data(lambda *shard: shard),
            "evaluation": engine.evaluation_data(lambda *shard: shard),
            "words": engine.describe(),
        }

    def messages(self):
        """Returns the errors of what cannot be trained."""
        wrapped = WithOwnStep(classifier())
        wrapped.build((None, SIZE, SIZE, 3))
        other = classifier() if self.engine.rank else classifier(extra_weights=True)
        return {
            "unused weight": self._message(compiled(classifier(extra_weights=True))),
            "train step": self._message(compiled(wrapped)),
            "other model": self._message(compiled(other)),
            "compiled": self._message(compiled(classifier(), jit_compile=True)),
        }

    def _message(self, model):
        return _message_of(lambda: self.fit(model, 1))


class WithOwnStep(keras.Model):
    """A model whose train step calls its network, not itself."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def call(self, inputs, training=False):
        return self.network(inputs, training=training)

    def train_step(self, data):
        images, targets = data
        self.zero_grad()
        outputs = self.network(images, training=True)
        self.compute_loss(images, targets, outputs).backward()
        return self.compute_metrics(images, targets, outputs)


def _message_of(function):
    try:
        function()
    except UserError as error:
        return str(error)
    return ""


def run_checks(checks: Checks) -> dict:
    """Calls every check; returns the results by their names."""
    return {name: getattr(checks, name)() for name in names_of_checks(type(checks))}


def names_of_checks(kind: type) -> list[str]:
    """Returns the names of the public methods that take no arguments."""
    helpers = {"fit", "evaluation_data"}
    return [name for name in dir(kind) if not name.startswith("_") and name not in helpers]


def run_in_this_process(folder: Path) -> None:
    """Joins the others, and writes the results of this process."""
    engine = make_engine("data_parallel")
    results = run_checks(ChecksOfSeveral(engine, folder))
    name = f"results_{engine.processes}_{engine.rank}.pkl"
    (folder / name).write_bytes(pickle.dumps(results))
    engine.close()


def become_several(processes: int) -> None:
    """Goes on as several processes, with the variables of torchrun; fails if one of them does."""
    children = {}
    for rank, variables in enumerate(environments("torch", processes)):
        child = os.fork()
        if child == 0:
            os.environ.update(variables)
            return
        children[child] = rank
    for _ in range(processes):
        child, status = os.wait()
        if status:
            raise SystemExit(f"the process with rank {children[child]} failed")
    raise SystemExit(0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for argument in sys.argv[2:]:
        become_several(int(argument))
    run_in_this_process(Path(sys.argv[1]))
