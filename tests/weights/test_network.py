"""The ConvNeXt is found and filled wherever it stands in a model, and the rest is left alone."""

import keras
import numpy as np
import pytest
import safetensors.numpy
import torch
from other_projects import (
    OTHERS,
    SIZE,
    assert_same_weights,
    set_random_weights,
    timm_network,
    weights_of,
)

import keras_convnext
from keras_convnext.errors import WeightsError
from keras_convnext.weights.network import find_network

SMALL = {"depths": (1, 1), "dims": (4, 8), "kernel_size": 3}
INSIDE = {"include_top": False, "pooling": "avg"}


@pytest.fixture(scope="module")
def small(build):
    """Returns a function that builds a network of two blocks."""
    return lambda **arguments: build(**{**SMALL, "input_shape": (32, 32, 3), **arguments})


@pytest.fixture(scope="module")
def file(small, tmp_path_factory):
    """The weights of a network of two blocks without a top, none of them 0."""
    model = small(**INSIDE)
    for number, variable in enumerate(model.weights):
        variable.assign(np.full(variable.shape, 1.0 + number, "float32"))
    return keras_convnext.save_weights(model, tmp_path_factory.mktemp("small") / "a.safetensors")


@pytest.fixture(scope="module")
def expected(file):
    return safetensors.numpy.load_file(file)


class MadeInBuild(keras.layers.Layer):
    """A layer that builds its network, by what the test sets, when it is built itself."""

    def build(self, input_shape):
        self.network = self.make()
        self.own = keras.layers.Dense(3, name="head")
        self.own.build((None, 8))

    def call(self, images):
        return self.own(self.network(images))


def in_a_layer(small, **arguments):
    layer = MadeInBuild(name="mine")
    layer.make = lambda: small(**INSIDE, **arguments)
    inputs = keras.Input((32, 32, 3))
    return keras.Model(inputs, layer(inputs))


def in_a_name_scope(small):
    with keras.name_scope("outer"), keras.name_scope("inner"):
        return small(**INSIDE)


def behind_a_convolution(small):
    grey = keras.Input((32, 32, 1))
    rgb = keras.layers.Conv2D(3, 1)(grey)
    return small(**INSIDE, input_shape=None, input_tensor=rgb)


def behind_an_adapted_normalization(small):
    normalization = keras.layers.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype("float32"))
    images = keras.Input((32, 32, 3))
    return small(**INSIDE, input_shape=None, input_tensor=normalization(images))


def under_a_head(small):
    network = small(**INSIDE)
    hidden = keras.layers.Dense(6, name="hidden")(network.output)
    return keras.Model(network.input, keras.layers.Dense(3, name="head")(hidden))


def in_a_sequential_model(small):
    return keras.Sequential([small(**INSIDE), keras.layers.Dense(3, name="head")])


def in_a_subclass(small):
    class Subclass(keras.Model):
        def __init__(self):
            super().__init__()
            self.stem = keras.layers.Conv2D(3, 1)
            self.networks = {"image": small(**INSIDE)}

        def call(self, images):
            return self.networks["image"](self.stem(images))

    model = Subclass()
    model(np.zeros((1, 32, 32, 1), "float32"))
    return model


def over_frames(small):
    frames = keras.Input((2, 32, 32, 3))
    each = keras.layers.TimeDistributed(small(**INSIDE))(frames)
    return keras.Model(frames, keras.layers.LSTM(2)(each))


AROUND = [
    in_a_layer,
    behind_a_convolution,
    behind_an_adapted_normalization,
    under_a_head,
    in_a_sequential_model,
    in_a_subclass,
    over_frames,
]


class TestLoad:
    @pytest.mark.parametrize("around", [*AROUND, in_a_name_scope])
    def test_fills_the_network_and_nothing_else(self, around, small, file, expected):
        model = around(small)
        others = [np.array(value) for value in map(_value, find_network(model).others)]

        keras_convnext.load_weights(model, file)

        network = find_network(model)
        actual = {path: _value(variable) for path, variable in network.variables.items()}
        assert_same_weights(actual, expected)
        for value, before in zip(map(_value, network.others), others, strict=True):
            np.testing.assert_array_equal(value, before)
        assert bool(others) == (around is not in_a_name_scope)

    def test_weights_argument_inside_a_layer(self, small, file, expected):
        network = find_network(in_a_layer(small, weights=file))

        actual = {path: _value(variable) for path, variable in network.variables.items()}
        assert_same_weights(actual, expected)

    @pytest.mark.parametrize("around", AROUND)
    def test_is_as_strict_as_ever(self, around, small, build, tmp_path):
        other = keras_convnext.save_weights(
            build(**{**SMALL, "depths": (1, 2)}, **INSIDE), tmp_path / "deeper.safetensors"
        )
        model = around(small)
        before = [np.array(_value(variable)) for variable in model.weights]

        with pytest.raises(WeightsError, match="stages_1_blocks_1/norm/gamma: none here"):
            keras_convnext.load_weights(model, other)

        for variable, value in zip(model.weights, before, strict=True):
            np.testing.assert_array_equal(_value(variable), value)

    def test_user_layer_called_head_is_the_classifier_if_it_takes_the_last_norm(self, small):
        network = small(**INSIDE)
        head = keras.layers.Dense(3, name="head")(network.output)
        found = find_network(keras.Model(network.input, head))

        assert "head/kernel" in found.variables
        assert found.others == []

    def test_feature_pyramid_beside_its_network_is_one_network(self, small):
        network = small(**INSIDE)
        pyramid = keras_convnext.feature_pyramid(network)
        images = keras.Input((32, 32, 3))
        model = keras.Model(images, [network(images), *pyramid(images).values()])

        assert find_network(model).variables.keys() == find_network(network).variables.keys()


class TestWhereTheNetworkCannotBeTold:
    def test_two_networks(self, small, file):
        images = keras.Input((32, 32, 3))
        outputs = [small(name=name, **INSIDE)(images) for name in ("rgb", "depth")]
        model = keras.Model(images, outputs, name="two")

        expected = "'two' holds 2 ConvNeXts: 'rgb', 'depth'. Pass one of them."
        with pytest.raises(WeightsError, match=expected):
            keras_convnext.load_weights(model, file)
        with pytest.raises(WeightsError, match=expected):
            keras_convnext.save_weights(model, file)
        keras_convnext.load_weights(model.get_layer("depth"), file)

    def test_no_network(self, file):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="mine")], name="a")

        with pytest.raises(WeightsError, match="'a' holds no ConvNeXt.*'stem' and.*layers.*'mine'"):
            keras_convnext.load_weights(model, file)

    def test_model_that_is_not_built(self, file):
        model = keras.Sequential([keras.layers.Dense(2)], name="a")

        with pytest.raises(WeightsError, match="'a' has no weights yet. Call it"):
            keras_convnext.load_weights(model, file)


class TestSave:
    @pytest.mark.parametrize("around", AROUND)
    def test_refuses_to_leave_weights_out(self, around, small, tmp_path):
        model = around(small)
        other = find_network(model).others[0]

        with pytest.raises(WeightsError, match="holds weights beside those of its") as caught:
            keras_convnext.save_weights(model, tmp_path / "a.safetensors")

        assert other.path in str(caught.value)
        assert not list(tmp_path.iterdir())

    def test_names_do_not_hold_what_stands_around_the_network(self, small, file, tmp_path):
        model = in_a_name_scope(small)
        keras_convnext.load_weights(model, file)

        saved = keras_convnext.save_weights(model, tmp_path / "a.safetensors")

        assert saved.read_bytes() == file.read_bytes()

    def test_model_without_weights_of_its_own_around_the_network(self, small, file, tmp_path):
        model = keras.Sequential([small(**INSIDE), keras.layers.Dropout(0.5)])
        keras_convnext.load_weights(model, file)

        saved = keras_convnext.save_weights(model, tmp_path / "a.safetensors")

        assert saved.read_bytes() == file.read_bytes()


# Keras says of every layer but a Dense one that it cannot be quantized.
IGNORE_LAYERS_WITHOUT = pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")


class TestLora:
    @pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
    def test_is_merged_as_in_a_file_of_keras(self, suffix, small, tmp_path):
        model = small(depths=(1,), dims=(4,), classes=3)
        random = np.random.default_rng(0)
        for layer in model._flatten_layers():
            if isinstance(layer, (keras.layers.Dense, keras.layers.Conv2D)):
                layer.enable_lora(2)
                for matrix in (layer.lora_kernel_a, layer.lora_kernel_b):
                    matrix.assign(random.normal(size=matrix.shape).astype("float32"))
        model.save(tmp_path / "model.keras")
        loaded = weights_of(keras.saving.load_model(tmp_path / "model.keras"))
        expected = {path: value for path, value in loaded.items() if "lora" not in path}

        file = keras_convnext.save_weights(model, tmp_path / f"a{suffix}", "safetensors")

        if suffix == ".pth":
            actual = {name: t.numpy() for name, t in torch.load(file, weights_only=True).items()}
        else:
            actual = safetensors.numpy.load_file(file)
        assert_same_weights(actual, expected)

    @IGNORE_LAYERS_WITHOUT
    @pytest.mark.parametrize("mode", ["int8", "int4"])
    def test_quantized_weights_are_refused(self, mode, small, tmp_path):
        model = small(depths=(1,), dims=(4,), classes=3)
        model.quantize(mode)

        with pytest.raises(WeightsError, match=f"'convnext' is quantized to {mode}.*before `quant"):
            keras_convnext.save_weights(model, tmp_path / "a.safetensors", "timm")
        assert not list(tmp_path.iterdir())

    @IGNORE_LAYERS_WITHOUT
    def test_float8_weights_are_the_float32_that_they_were(self, small, tmp_path):
        model = small(depths=(1,), dims=(4,), classes=3)
        before = weights_of(model)
        model.quantize("float8")

        file = keras_convnext.save_weights(model, tmp_path / "a.safetensors")

        assert_same_weights(safetensors.numpy.load_file(file), before)


def test_two_networks_in_one_graph_are_nested(small, tmp_path):
    """Each is a layer with a name of its own, so that the names within them may be the same."""
    images = keras.Input((32, 32, 3))
    sizes = {"depths": (1,), "dims": (4,), **INSIDE}
    features = [small(name=name, **sizes)(images) for name in ("rgb", "depth")]
    output = keras.layers.Dense(1)(keras.layers.Concatenate()(features))
    model = keras.Model(images, output)
    set_random_weights(model)
    model.compile(keras_convnext.optimizers.AdamW(0.1), "mse", run_eagerly=True)
    batch = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    before = [np.array(_value(variable)) for variable in model.weights]
    model.train_on_batch(batch, np.ones((2, 1), "float32"))
    model.save(tmp_path / "model.keras")

    loaded = keras.saving.load_model(tmp_path / "model.keras")

    assert len(model.weights) == 2 * len(small(**sizes).weights) + 2
    for variable, old, again in zip(model.weights, before, loaded.weights, strict=True):
        assert not np.array_equal(_value(variable), old), variable.path
        np.testing.assert_array_equal(_value(again), _value(variable))


def test_network_of_another_project_fills_a_network_inside(build, tmp_path):
    torch.save(OTHERS["timm"]().state_dict(), tmp_path / "model.pth")
    inner = build(**INSIDE)
    model = keras.Sequential([inner, keras.layers.Dense(2)])

    keras_convnext.load_weights(model, tmp_path / "model.pth")

    expected = timm_network().state_dict()["stem.0.bias"].numpy()
    np.testing.assert_array_equal(weights_of(inner)["stem/conv/bias"], expected)
    assert inner.input_shape == (None, *SIZE, 3)


def _value(variable):
    return keras.ops.convert_to_numpy(variable)


class TestWhileKerasTracesAModel:
    """`fit` traces a model that is not built yet; what is assigned then counts for the trace."""

    @pytest.fixture
    def fit(self):
        """Returns a function that puts a layer into a model and fits it without learning."""

        class Around(keras.Model):
            def __init__(self, layer):
                super().__init__()
                self.layer = layer

            def call(self, images):
                return self.layer(images)

        def fit(layer):
            model = Around(layer)
            # Nothing is compiled where it is traced all the same.
            eagerly = keras.backend.backend() != "tensorflow"
            model.compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=eagerly, jit_compile=False)
            model.fit(np.zeros((1, 32, 32, 3)), np.zeros((1, 3)), verbose=0)
            return model

        return fit

    def test_weights_argument_in_build(self, fit, small, file, expected):
        layer = MadeInBuild()
        layer.make = lambda: small(**INSIDE, weights=file)

        network = find_network(fit(layer))

        actual = {path: _value(variable) for path, variable in network.variables.items()}
        assert_same_weights(actual, expected)

    def test_loading_in_build(self, fit, small, file, expected):
        def make():
            network = small(**INSIDE)
            keras_convnext.load_weights(network, file)
            return network

        layer = MadeInBuild()
        layer.make = make

        network = find_network(fit(layer))

        actual = {path: _value(variable) for path, variable in network.variables.items()}
        assert_same_weights(actual, expected)

    def test_loading_into_what_was_made_before_would_be_lost(self, fit, small, file):
        network = small(**INSIDE)
        before = weights_of(network)

        def make():
            keras_convnext.load_weights(network, file)
            return network

        layer = MadeInBuild()
        layer.make = make

        with pytest.raises(WeightsError, match="loaded into 'convnext' while a model is traced"):
            fit(layer)
        assert_same_weights(weights_of(network), before)
