"""Builds networks to be timed: a forward pass and a train step on images in device memory.

All networks start from random weights and train with AdamW on the cross entropy. The images are
tensors of the network's framework on its device, so only the network is timed. Each project uses
its own AdamW: ours, Keras's or PyTorch's.
"""

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keras_convnext.benchmark.candidates import (
    KERAS_APPLICATIONS,
    OURS,
    TIMM_COMPILED,
    TRANSFORMERS,
    Candidate,
)
from keras_convnext.catalog.architectures import get_variant
from keras_convnext.errors import UserError

CLASSES = 1000
LEARNING_RATE = 1e-4


@dataclass(frozen=True)
class Network:
    """A network and the two calls to time; each returns when the device has finished.

    Attributes:
        parameters: Its trainable parameters.
        forward: Computes the logits.
        train: Takes one step of AdamW on the cross entropy.
    """

    parameters: int
    forward: Callable[[], object]
    train: Callable[[], object]


def import_project(project: str) -> None:
    """Imports a project, so that the import does not count as a network's time and memory."""
    if project in (OURS, KERAS_APPLICATIONS):
        importlib.import_module("keras_convnext.models" if project == OURS else "keras")
        return
    from keras_convnext.benchmark.torchvision_operations import make_torchvision_importable

    make_torchvision_importable()
    if project == TRANSFORMERS:
        importlib.import_module("transformers.models.convnext.modeling_convnext")
    else:
        importlib.import_module("timm")


def make_network(candidate: Candidate, batch_size: int, image_size: int) -> Network:
    """Builds a candidate's network in this process, which must use the candidate's backend.

    Call `import_project` first.

    Args:
        candidate: The network to build.
        batch_size: Images a call.
        image_size: Height and width of the images in pixels.

    Raises:
        UserError: If the project has no such network.
    """
    generator = np.random.default_rng(0)
    images = generator.uniform(0, 255, (batch_size, image_size, image_size, 3)).astype("float32")
    labels = generator.integers(0, CLASSES, batch_size)
    make = _keras_network if candidate.project in (OURS, KERAS_APPLICATIONS) else _torch_network
    return make(candidate, images, labels)


def _keras_network(candidate: Candidate, images: np.ndarray, labels: np.ndarray) -> Network:
    import keras

    bfloat16 = candidate.precision == "bfloat16"
    keras.config.set_dtype_policy("mixed_bfloat16" if bfloat16 else "float32")
    build = _keras_builder(candidate)
    model = build(weights=None, input_shape=images.shape[1:], classifier_activation=None)
    model.compile(
        _adamw(candidate)(LEARNING_RATE),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    inputs, targets = keras.ops.convert_to_tensor(images), keras.ops.convert_to_tensor(labels)
    return Network(
        parameters=sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
        # Both return NumPy or Python numbers, so the device has finished.
        forward=lambda: model.predict_on_batch(inputs),
        train=lambda: model.train_on_batch(inputs, targets),
    )


def _keras_builder(candidate: Candidate) -> Callable:
    if candidate.project == OURS:
        from keras_convnext.models import create_model

        return functools.partial(create_model, candidate.network)
    import keras

    build = getattr(keras.applications, candidate.network, None)
    if not callable(build):
        known = [name for name in dir(keras.applications) if name[0].isupper()]
        raise UserError(
            f"keras.applications has no {candidate.network!r}. It has: {', '.join(known)}."
        )
    return build


def _adamw(candidate: Candidate) -> Callable:
    if candidate.project == OURS:
        from keras_convnext.optimizers import AdamW

        return AdamW
    import keras

    return keras.optimizers.AdamW


def _torch_network(candidate: Candidate, images: np.ndarray, labels: np.ndarray) -> Network:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = _torch_builder(candidate)().to(device)
    inputs = torch.from_numpy(images / 255).permute(0, 3, 1, 2).contiguous().to(device)
    targets = torch.from_numpy(labels).to(device)
    if device == "cuda":  # as timm's documentation advises; slower on CPUs
        network = network.to(memory_format=torch.channels_last)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    call = torch.compile(network) if candidate.project == TIMM_COMPILED else network
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
    half = torch.autocast(device, torch.bfloat16, enabled=candidate.precision == "bfloat16")

    def wait():
        if device == "cuda":
            torch.cuda.synchronize()

    def forward():
        network.eval()
        with torch.inference_mode(), half:
            call(inputs)
        wait()

    def train():
        network.train()
        with half:
            loss = torch.nn.functional.cross_entropy(call(inputs), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        wait()

    return Network(sum(weight.numel() for weight in network.parameters()), forward, train)


def _torch_builder(candidate: Candidate) -> Callable:
    if candidate.project == TRANSFORMERS:
        return lambda: _transformers_network(candidate.network)
    import timm

    if not timm.is_model(candidate.network):
        raise UserError(f"timm has no model called {candidate.network!r}.")
    return lambda: timm.create_model(candidate.network, num_classes=CLASSES)


def _transformers_network(name: str):
    import torch
    from transformers import ConvNextConfig, ConvNextForImageClassification

    variant = get_variant(name)
    config = ConvNextConfig(depths=list(variant.depths), hidden_sizes=list(variant.dims))
    config.num_labels = CLASSES

    class Logits(torch.nn.Module):
        """Returns only the logits, as the other networks do."""

        def __init__(self):
            super().__init__()
            self.network = ConvNextForImageClassification(config)

        def forward(self, images):
            return self.network(images).logits

    return Logits()
