"""The published sizes: parameters and multiply-adds of every network of the paper."""

import math

import pytest

import keras_convnext
from keras_convnext.catalog.architectures import VARIANTS

# Classifiers with 1000 and with 21841 classes; the paper's tables 1, 2 and 12 round them.
PARAMETERS = {
    "convnext_tiny": (28_589_128, 44_615_857),
    "convnext_small": (50_223_688, 66_250_417),
    "convnext_base": (88_591_464, 109_953_489),
    "convnext_large": (197_767_336, 229_799_953),
    "convnext_xlarge": (350_196_968, 392_900_177),
    "convnext_isotropic_small": (22_308_712, 30_332_497),
    "convnext_isotropic_base": (87_083_752, 103_110_481),
    "convnext_isotropic_large": (305_942_504, 327_304_529),
}
pytestmark = pytest.mark.usefixtures("no_weights")
every_variant = pytest.mark.parametrize("name", PARAMETERS)


def multiply_adds(model):
    """Returns those of all convolutions and dense layers: every kernel at every output pixel."""
    return sum(
        math.prod(weight.shape) * math.prod(layer.output.shape[1:-1])
        for layer in model.layers
        for weight in layer.weights
        if weight.path.endswith("kernel")
    )


@every_variant
def test_parameters_are_those_of_the_paper(name):
    counts = tuple(
        keras_convnext.create_model(name, classes=classes).count_params()
        for classes in (1000, 21841)
    )

    assert counts == PARAMETERS[name]
    assert counts == (VARIANTS[name].parameters, VARIANTS[name].parameters_22k)


@every_variant
@pytest.mark.parametrize("size", [224, 384])
def test_multiply_adds_are_those_of_the_paper(name, size):
    model = keras_convnext.create_model(name, input_shape=(size, size, 3))

    gmacs = {224: VARIANTS[name].gmacs_224, 384: VARIANTS[name].gmacs_384}[size]
    assert round(multiply_adds(model) / 1e9, 3) == gmacs


def test_every_variant_is_counted():
    assert list(PARAMETERS) == list(VARIANTS) == keras_convnext.list_models()


@pytest.mark.parametrize("pooling", [None, "avg"])
def test_without_top_only_the_classifier_is_missing(pooling):
    model = keras_convnext.create_model("convnext_tiny", include_top=False, pooling=pooling)

    assert model.count_params() == 27_820_128


CONSTRUCTORS = {
    "ConvNeXtTiny": "convnext_tiny",
    "ConvNeXtSmall": "convnext_small",
    "ConvNeXtBase": "convnext_base",
    "ConvNeXtLarge": "convnext_large",
    "ConvNeXtXLarge": "convnext_xlarge",
    "ConvNeXtIsotropicSmall": "convnext_isotropic_small",
    "ConvNeXtIsotropicBase": "convnext_isotropic_base",
    "ConvNeXtIsotropicLarge": "convnext_isotropic_large",
}


@pytest.mark.parametrize(("constructor", "name"), CONSTRUCTORS.items())
def test_constructor_of_a_network_builds_that_network(constructor, name):
    model = getattr(keras_convnext, constructor)()

    assert model.name == name
    assert model.count_params() == PARAMETERS[name][0]
