"""What every argument of the builder does, and what is refused."""

import inspect
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_convnext
from keras_convnext import ConvNeXt, models
from keras_convnext.models.convnext import drop_path_rates

GOLDEN = Path(__file__).parents[1] / "golden"
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
PLAIN = {"classes": 3, "include_preprocessing": False, "classifier_activation": None}


def copy_weights(source, target):
    """Gives the layers of `target` the weights of the layers of the same names in `source`."""
    for layer in target.layers:
        if layer.weights:
            layer.set_weights(source.get_layer(layer.name).get_weights())


class TestOutputs:
    @pytest.mark.parametrize(
        ("arguments", "shape"),
        [
            ({"classes": 7}, (None, 7)),
            ({"include_top": False}, (None, 2, 3, 8)),
            ({"include_top": False, "pooling": "avg"}, (None, 8)),
            ({"include_top": False, "pooling": "max"}, (None, 8)),
        ],
    )
    @pytest.mark.usefixtures("no_weights")
    def test_shape(self, small, arguments, shape):
        assert ConvNeXt(**small, **arguments, input_shape=(16, 24, 3)).output.shape == shape

    @pytest.mark.parametrize(
        ("include_top", "shape"), [(True, (None, 224, 224, 3)), (False, (None, None, None, 3))]
    )
    @pytest.mark.usefixtures("no_weights")
    def test_default_input_shape(self, small, include_top, shape):
        assert ConvNeXt(**small, include_top=include_top).input.shape == shape

    @pytest.mark.parametrize("pooling", ["avg", "max"])
    def test_pooling_comes_before_the_last_norm(self, small, images, pooling):
        pooled = ConvNeXt(**small, include_top=False, pooling=pooling)
        blocks = keras.Model(pooled.input, pooled.get_layer("stages_1_blocks_0").output)
        x = images(2, 16, 24, 3)
        features = blocks.predict(x, verbose=0)
        vectors = {"avg": np.mean, "max": np.max}[pooling](features, axis=(1, 2))

        expected = ops.convert_to_numpy(pooled.get_layer("head_norm")(vectors))
        np.testing.assert_allclose(pooled.predict(x, verbose=0), expected, atol=1e-4)

    @pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
    def test_classifier_activation_is_applied_to_the_logits(self, small, images, activation):
        logits = ConvNeXt(**small, classes=3, classifier_activation=None, input_shape=(16, 16, 3))
        model = ConvNeXt(
            **small, classes=3, classifier_activation=activation, input_shape=(16, 16, 3)
        )
        model.set_weights(logits.get_weights())
        x = images(2, 16, 16, 3)

        expected = keras.activations.get(activation)(logits.predict(x, verbose=0))
        np.testing.assert_allclose(
            model.predict(x, verbose=0), ops.convert_to_numpy(expected), atol=1e-6
        )


class TestInputs:
    def test_dynamic_height_and_width(self, small, images):
        model = ConvNeXt(**small, **PLAIN, input_shape=(None, None, 3))

        for size in [(16, 16), (13, 21)]:
            assert model.predict(images(2, *size, 3), verbose=0).shape == (2, 3)

    def test_keras_input_of_an_odd_size(self, small, images):
        image = keras.Input((17, 11, 3))

        model = ConvNeXt(**small, **PLAIN, input_tensor=image)

        assert model.input is image
        assert model.predict(images(2, 17, 11, 3), verbose=0).shape == (2, 3)

    def test_output_of_another_model(self, small, images):
        other = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(3, 1)])

        model = ConvNeXt(**small, **PLAIN, input_tensor=other.outputs[0])

        assert model.input is other.inputs[0]
        network = ConvNeXt(**small, **PLAIN, input_shape=(16, 16, 3))
        copy_weights(model, network)
        x = images(2, 16, 16, 3)
        expected = network.predict(other.predict(x, verbose=0), verbose=0)
        np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-5)

    def test_output_of_a_model_with_two_inputs(self, small, images):
        inputs = [keras.Input((16, 16, 3)), keras.Input((16, 16, 3))]

        model = ConvNeXt(**small, **PLAIN, input_tensor=keras.layers.Add()(inputs))

        assert [id(tensor) for tensor in model.inputs] == [id(tensor) for tensor in inputs]
        x = [images(2, 16, 16, 3), images(2, 16, 16, 3)]
        assert model.predict(x, verbose=0).shape == (2, 3)

    @pytest.mark.parametrize("channels", [1, 12])
    def test_any_channels_without_preprocessing(self, small, images, channels):
        model = ConvNeXt(**small, **PLAIN, input_shape=(16, 16, channels))

        assert model.predict(images(2, 16, 16, channels), verbose=0).shape == (2, 3)

    def test_preprocessing_normalises_raw_values_as_imagenet(self, small, images):
        arguments = {**PLAIN, "input_shape": (16, 16, 3)}
        model = ConvNeXt(**small, **{**arguments, "include_preprocessing": True})
        plain = ConvNeXt(**small, **arguments)
        plain.set_weights(model.get_weights())
        raw = images(2, 16, 16, 3).astype("uint8")

        expected = plain.predict((raw / 255 - IMAGENET_MEAN) / IMAGENET_STD, verbose=0)
        np.testing.assert_allclose(model.predict(raw, verbose=0), expected, atol=1e-5)


NUMBERS = {
    "depths": np.array([1, 1]),
    "dims": np.array([4, 8], "int16"),
    "kernel_size": np.int64(3),
    "patch_size": np.array(2, "uint8"),
    "classes": np.int32(3),
    "input_shape": np.array([16, 24, 3]),
    "drop_path_rate": np.float32(0.25),
    "layer_scale_init_value": np.float64(0.5),
    "head_init_scale": np.float32(0.5),
}
PYTHON = {
    "depths": [1, 1],
    "dims": (4, 8),
    "kernel_size": 3,
    "patch_size": 2,
    "classes": 3,
    "input_shape": (16, 24, 3),
    "drop_path_rate": 0.25,
    "layer_scale_init_value": 0.5,
    "head_init_scale": 0.5,
}


class TestNumbersOfNumPy:
    @pytest.mark.usefixtures("no_weights")
    def test_give_the_model_that_those_of_python_give(self):
        text, expected = (ConvNeXt(**arguments).to_json() for arguments in (NUMBERS, PYTHON))

        plain = [re.sub(r"input_layer(_\d+)?|\"seed\": \d+", "", t) for t in (text, expected)]
        assert plain[0] == plain[1]

    def test_can_be_saved(self, tmp_path):
        ConvNeXt(**NUMBERS).save(tmp_path / "model.keras")

        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert loaded.input_shape == (None, 16, 24, 3)

    @pytest.mark.usefixtures("no_weights")
    def test_are_taken_by_the_networks_of_the_paper(self):
        model = keras_convnext.ConvNeXtTiny(
            classes=np.int64(7), input_shape=[np.int64(32), None, np.uint8(3)]
        )

        assert (model.input_shape, model.output_shape) == ((None, 32, None, 3), (None, 7))
        json.loads(model.to_json())


class TestNames:
    def test_a_normalization_of_the_users_own_is_no_clash(self, small):
        keras.utils.clear_session()  # so that Keras begins anew to count names
        network = ConvNeXt(**small, include_top=False, pooling="avg", input_shape=(16, 16, 3))
        normalization = keras.layers.Normalization()
        assert normalization.name == "normalization"

        behind = keras.Model(network.input, normalization(network.output))

        assert behind.output_shape == (None, 8)
        keras.utils.clear_session()
        image = keras.Input((16, 16, 3))
        before = ConvNeXt(**small, input_tensor=keras.layers.Normalization()(image))
        assert "normalization" in [layer.name for layer in before.layers]

    def test_a_permutation_of_the_users_own_is_no_clash(self, small, channels_first):
        image = keras.Input((16, 16, 3))
        first = keras.layers.Permute((3, 1, 2), name="channels_last")(image)

        model = ConvNeXt(**small, classes=3, input_tensor=first)

        assert model.output_shape == (None, 3)

    def test_second_network_in_one_graph_says_how(self, small):
        arguments = {**small, "include_preprocessing": False, "include_top": False}
        first = ConvNeXt(**arguments, input_shape=(64, 64, 3))

        with pytest.raises(ValueError, match=r"have the names of .*: head_norm, stages_0.*call"):
            ConvNeXt(**arguments, input_tensor=first.output)

    def test_second_network_called_as_a_layer(self, small):
        arguments = {**small, "include_preprocessing": False, "include_top": False}
        image = keras.Input((64, 64, 3))
        first = ConvNeXt(**arguments, input_shape=(64, 64, 3), name="first")(image)
        second = ConvNeXt(**arguments, input_shape=(None, None, 8), name="second")(first)

        assert keras.Model(image, second).output_shape == (None, 1, 1, 8)

    @pytest.mark.usefixtures("no_weights")
    def test_other_errors_of_keras_are_its_own(self, small):
        """A name with a slash is refused by Keras itself."""
        with pytest.raises(ValueError, match="name.*/|/.*name"):
            ConvNeXt(**small, name="a/b", input_shape=(16, 16, 3))


class TestChannelsFirst:
    def test_same_logits(self, small, images, channels_first):
        first = ConvNeXt(**small, classes=3, input_shape=(3, 17, 22))
        keras.config.set_image_data_format("channels_last")
        last = ConvNeXt(**small, classes=3, input_shape=(17, 22, 3))
        last.set_weights(first.get_weights())
        x = images(2, 17, 22, 3)

        np.testing.assert_allclose(
            first.predict(x.transpose(0, 3, 1, 2), verbose=0), last.predict(x, verbose=0), atol=1e-6
        )

    def test_feature_map_comes_out_channels_first(self, small, images, channels_first):
        first = ConvNeXt(**small, include_top=False)
        keras.config.set_image_data_format("channels_last")
        last = ConvNeXt(**small, include_top=False)
        last.set_weights(first.get_weights())
        x = images(2, 17, 25, 3)

        outputs = first.predict(x.transpose(0, 3, 1, 2), verbose=0)

        assert outputs.shape == (2, 8, 2, 3)
        expected = last.predict(x, verbose=0)
        np.testing.assert_allclose(outputs.transpose(0, 2, 3, 1), expected, atol=1e-4)

    @pytest.mark.parametrize(
        ("include_top", "shape"), [(True, (None, 3, 224, 224)), (False, (None, 3, None, None))]
    )
    @pytest.mark.usefixtures("no_weights")
    def test_default_input_shape(self, small, channels_first, include_top, shape):
        assert ConvNeXt(**small, include_top=include_top).input.shape == shape


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"depths": (1, 1, 1)}, r"`depths` and `dims` must .* equally long"),
            ({"depths": (), "dims": ()}, r"`depths` and `dims` must .* not empty"),
            ({"depths": (1, 0)}, r"at least 1 in every stage. Received: depths=\(1, 0\)"),
            ({"dims": (0, 8)}, r"at least 1 in every stage. Received: .* dims=\(0, 8\)"),
            ({"kernel_size": 4}, r"`kernel_size` must be odd .* Received: kernel_size=4"),
            ({"pooling": "mean"}, r"`pooling` must be None, 'avg' or 'max'. Received: pooling='me"),
            ({"classes": 0}, r"`classes` must be at least 1. Received: classes=0"),
            ({"drop_path_rate": 1.0}, r"must lie in \[0, 1\). Received: drop_path_rate=1.0"),
            ({"drop_path_rate": -0.1}, r"must lie in \[0, 1\). Received: drop_path_rate=-0.1"),
            ({"layer_scale_init_value": 0}, r"pass None for a network without layer scale"),
            ({"layer_scale_init_value": -1.0}, r"must be above 0.* layer_scale_init_value=-1.0"),
            ({"input_shape": (16, 3)}, r"must be \(height, width, channels\).* Received: \(16, 3"),
            ({"input_shape": (16, 16, None)}, r"number of channels must be known.*16, None\)"),
            ({"input_shape": (16, 7, 3)}, r"at least 8 pixels .* Received the shape \(16, 7, 3\)"),
            ({"input_shape": (16, 16, 1)}, r"needs 3 channels. Received images of 1 channels"),
            ({"input_tensor": np.zeros((1, 16, 16, 3))}, r"must be a Keras tensor.*: ndarray"),
            ({"depths": (1, 1.5)}, r"`depths` must be a whole number. Received: 1.5"),
            ({"dims": 8}, r"`dims` must be a sequence of whole numbers.*Received: 8"),
            ({"classes": "10"}, r"`classes` must be a whole number. Received: '10'"),
            ({"patch_size": np.float32(4)}, r"`patch_size` must be a whole number. Received: .*4"),
            ({"input_shape": (16, 16.0, 3)}, r"`input_shape` must be a whole number.*: 16.0"),
            ({"input_shape": 16}, r"`input_shape` must be a sequence of sizes. Received: 16"),
            ({"drop_path_rate": "high"}, r"`drop_path_rate` must be a number. Received: 'high'"),
            ({"weights": "imagnet"}, r"'imagnet' is neither a file, nor a directory, nor an addr"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
    )
    @pytest.mark.usefixtures("no_weights")
    def test_refuses(self, small, arguments, message):
        with pytest.raises(ValueError, match=message):
            ConvNeXt(**{**small, **arguments})

    def test_refuses_a_shape_that_is_not_that_of_the_tensor(self, small):
        image = keras.Input((16, 16, 3))

        with pytest.raises(ValueError, match=r"pass only one.*input_shape=\(16, 24, 3\), an in"):
            ConvNeXt(**small, input_tensor=image, input_shape=(16, 24, 3))

    def test_refuses_a_small_image_channels_first(self, small, channels_first):
        with pytest.raises(ValueError, match=r"at least 8 pixels .* the shape \(3, 7, 16\)"):
            ConvNeXt(**small, input_shape=(3, 7, 16))


class TestInitialisation:
    @pytest.mark.parametrize(
        ("rate", "blocks", "expected"),
        [(0.4, 5, [0, 0.1, 0.2, 0.3, 0.4]), (0.5, 1, [0]), (0, 3, [0, 0, 0])],
    )
    def test_drop_path_rates_are_linear_up_to_the_full_rate(self, rate, blocks, expected):
        assert drop_path_rates(rate, blocks) == pytest.approx(expected)

    @pytest.mark.usefixtures("no_weights")
    def test_every_block_has_its_drop_path_rate(self, toy):
        model = ConvNeXt(**toy, drop_path_rate=0.4, input_shape=(32, 32, 3))

        blocks = [layer for layer in model.layers if "_blocks_" in layer.name]
        rates = [block.stochastic_depth.rate for block in blocks]
        assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])

    def test_weights_start_as_in_the_official_code(self):
        model = ConvNeXt((1, 1), (32, 64), classes=100, head_init_scale=0.5)

        for weight in model.weights:
            values = ops.convert_to_numpy(weight)
            match weight.path.rsplit("/", 1):
                case ["head", "kernel"]:
                    assert values.std() == pytest.approx(0.01, rel=0.05)
                case [_, "kernel"]:
                    assert values.std() == pytest.approx(0.02, rel=0.1), weight.path
                    # A normal holds 4.6% of its values past two deviations, a truncated one none.
                    assert 0.02 < np.mean(np.abs(values) > 0.04) < 0.08, weight.path
                case [layer, kind]:
                    start = {"bias": 0, "beta": 0, "gamma": 1}[kind]
                    start = 1e-6 if layer.endswith("layer_scale") else start
                    np.testing.assert_array_equal(values, np.float32(start), weight.path)

    @pytest.mark.usefixtures("no_weights")
    def test_without_layer_scale_there_are_no_such_weights(self, small):
        def paths(value):
            model = ConvNeXt(**{**small, "layer_scale_init_value": value})
            return {weight.path for weight in model.weights}

        assert paths(0.1) - paths(None) == {
            "stages_0_blocks_0/layer_scale/gamma",
            "stages_1_blocks_0/layer_scale/gamma",
        }


@pytest.mark.usefixtures("no_weights")
def test_names_and_shapes_of_weights_stay_as_they_are(toy):
    # Users' code and files rely on these names; a change here needs a line in the changelog.
    model = ConvNeXt(**toy, classes=5, input_shape=(64, 64, 3))
    lines = []
    for layer in model.layers[1:]:  # the input's name counts up
        lines += [layer.name, *(f"  {weight.path} {weight.shape}" for weight in layer.weights)]

    golden = (GOLDEN / "weight_paths.txt").read_text(encoding="utf-8").splitlines()
    assert lines == golden


def test_summary_lists_the_layers(small):
    model = ConvNeXt(**small, classes=3, input_shape=(16, 16, 3))
    lines = []

    model.summary(print_fn=lines.append)

    text = "\n".join(lines)
    assert all(layer.name in text for layer in model.layers)
    assert f"Total params: {model.count_params():,}" in text


@pytest.mark.usefixtures("no_weights")
class TestCreateModel:
    def test_passes_arguments_on(self):
        model = keras_convnext.create_model(
            "convnext_tiny", patch_size=2, input_shape=(32, 48, 3), classes=7
        )

        assert model.name == "convnext_tiny"
        assert model.get_layer("stem").output.shape == (None, 16, 24, 96)
        assert model.output.shape == (None, 7)

    def test_takes_a_name_of_ones_own(self):
        assert keras_convnext.create_model("convnext_tiny", **{"name": "mine"}).name == "mine"

    def test_unknown_name_names_the_nearest(self):
        with pytest.raises(
            ValueError, match=r"no model called 'ConvNext-Tny'. Did you mean 'convn"
        ):
            keras_convnext.create_model("ConvNext-Tny")

    def test_hopeless_name_lists_the_models(self):
        with pytest.raises(ValueError, match=r"called 'vgg'. The models are: convnext_tiny, conv"):
            keras_convnext.create_model("vgg")


PUBLIC_FUNCTIONS = {
    name: function for name, function in vars(models).items() if inspect.isfunction(function)
} | {"list_models": keras_convnext.list_models}


@pytest.mark.parametrize("name", PUBLIC_FUNCTIONS)
def test_public_function_is_annotated(name):
    signature = inspect.signature(PUBLIC_FUNCTIONS[name])

    bare = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.annotation is inspect.Parameter.empty
        and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    assert bare == []
    assert signature.return_annotation is not inspect.Signature.empty


@pytest.mark.parametrize("size", ["Tiny", "Small", "Base", "Large", "XLarge"])
def test_constructors_take_what_the_builder_takes_from_include_top_on(size):
    builder = list(inspect.signature(ConvNeXt).parameters.values())
    names = [parameter.name for parameter in builder]

    constructor = inspect.signature(getattr(keras_convnext, f"ConvNeXt{size}"))
    assert list(constructor.parameters.values()) == builder[names.index("include_top") :]
