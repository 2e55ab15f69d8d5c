"""What the tests of weights share: networks of ours at the toy size of `other_projects`."""

import importlib.util

import numpy as np
import pytest
from comparison import zeros_for_random_values
from other_projects import (
    CLASSES,
    DEPTHS,
    DIMS,
    ISOTROPIC,
    SIZE,
    set_random_weights,
)

import keras_convnext


@pytest.fixture(scope="session")
def build():
    """Returns a function that builds our network at the toy size; it gives logits."""

    def build(**arguments):
        arguments = {
            "depths": DEPTHS,
            "dims": DIMS,
            "classes": CLASSES,
            "include_preprocessing": False,
            "classifier_activation": None,
            "input_shape": (*SIZE, 3),
            "layer_scale_init_value": 0.5,
            **arguments,
        }
        with zeros_for_random_values():
            return keras_convnext.ConvNeXt(**arguments)

    return build


def spoiled(model):
    """Fills a model with what spoils every output that a weight was not loaded for."""
    for variable in model.weights:
        variable.assign(np.full(variable.shape, np.nan, "float32"))
    return model


@pytest.fixture(scope="session")
def shared_network(build):
    return build()


@pytest.fixture
def network(shared_network):
    """Our network; all its weights are NaN. One model, so that its forward pass compiles once."""
    return spoiled(shared_network)


@pytest.fixture(scope="session")
def shared_backbone(build):
    return build(include_top=False, pooling="avg")


@pytest.fixture
def backbone(shared_backbone):
    """The same without its classifier."""
    return spoiled(shared_backbone)


@pytest.fixture(scope="session")
def shared_isotropic(build):
    def isotropic(layer_scale):
        return build(
            depths=(ISOTROPIC["depth"],),
            dims=(ISOTROPIC["dim"],),
            patch_size=ISOTROPIC["patch_size"],
            stem_norm=False,
            layer_scale_init_value=0.5 if layer_scale else None,
        )

    return {layer_scale: isotropic(layer_scale) for layer_scale in (True, False)}


@pytest.fixture
def isotropic(shared_isotropic):
    """Returns a function that gives the isotropic network, with layer scale or without."""
    return lambda layer_scale: spoiled(shared_isotropic[layer_scale])


@pytest.fixture
def random_network(shared_network):
    """Our network with random weights."""
    set_random_weights(shared_network)
    return shared_network


@pytest.fixture
def random_backbone(shared_backbone):
    set_random_weights(shared_backbone)
    return shared_backbone


@pytest.fixture
def without_pytorch(monkeypatch):
    """This machine looks as if PyTorch were not installed."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, package=None: None if name == "torch" else find_spec(name, package),
    )
