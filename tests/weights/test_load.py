"""Weights into a network: all of them or none, and what differs is told."""

import logging
import shutil

import keras
import numpy as np
import pytest
import safetensors.torch
import torch
from comparison import relative_error, zeros_for_random_values
from other_projects import (
    DEPTHS,
    DIMS,
    OTHERS,
    SIZE,
    assert_same_weights,
    images,
    logits,
    official_isotropic_shapes,
    official_shapes,
    random_state_dict,
    set_random_weights,
    timm_network,
    torchvision_network,
    transformers_network,
    weights_of,
)

import keras_convnext
from keras_convnext.catalog.architectures import VARIANTS
from keras_convnext.errors import WeightsError
from keras_convnext.weights import weight_file

TIMM_KERNEL = "stages.2.blocks.1.conv_dw.weight"
KERNEL = "stages_2_blocks_1/depthwise_conv/kernel"
TINY = (VARIANTS["convnext_tiny"].depths, VARIANTS["convnext_tiny"].dims)


@pytest.fixture
def write(tmp_path):
    """Returns a function that writes the weights of timm's network with some of them changed."""

    def write(changes=None, network=None):
        state_dict = dict((network or OTHERS["timm"]()).state_dict())
        state_dict |= changes or {}
        tensors = {name: value for name, value in state_dict.items() if value is not None}
        safetensors.torch.save_file(tensors, tmp_path / "changed.safetensors")
        return tmp_path / "changed.safetensors"

    return write


@pytest.fixture
def warnings_of_load(caplog):
    """The messages that loading logged."""

    def messages():
        return [
            record.getMessage()
            for record in caplog.records
            if record.name.startswith("keras_convnext")
        ]

    caplog.set_level(logging.WARNING, logger="keras_convnext")
    return messages


def assert_refused(model, file, *lines):
    """Expects an error with these lines, each of them whole, and a model that is as it was."""
    before = weights_of(model)
    with pytest.raises(WeightsError) as caught:
        keras_convnext.load_weights(model, file)
    assert_same_weights(weights_of(model), before)
    text = str(caught.value).splitlines()
    assert text[0].startswith(f"{model.name!r} is not the network of {file}")
    if lines:
        assert sorted(text[1:]) == sorted(lines)
    return text


class TestDifferences:
    def test_missing_weight(self, random_network, write):
        file = write({TIMM_KERNEL: None, "head.norm.bias": None})

        # Without the second block's kernel the rest of this block has no place either.
        text = assert_refused(random_network, file)
        assert "  head_norm/beta: (32,) here, none in the file" in text
        assert f"  {KERNEL}: (7, 7, 24, 1) here, none in the file" in text

    def test_missing_weight_alone(self, random_network, write):
        file = write({"stages.2.blocks.1.mlp.fc1.bias": None})

        expected = "  stages_2_blocks_1/pointwise_conv_1/bias: (96,) here, none in the file"
        assert_refused(random_network, file, expected)

    @pytest.mark.parametrize("name", ["stages.2.downsample.1.weight", "stem.0.bias", "stem.1.bias"])
    def test_missing_weight_outside_the_blocks(self, name, random_network, write):
        assert len(assert_refused(random_network, write({name: None}))) == 2

    def test_missing_stage(self, random_network, write):
        names = OTHERS["timm"]().state_dict()
        file = write({name: None for name in names if name.startswith("stages.3.")})

        assert len(assert_refused(random_network, file)) > 10

    def test_unexpected_weight(self, random_network, write):
        file = write({"stages.2.blocks.1.mlp.gate.weight": torch.ones(3, 2)})

        expected = "  stages.2.blocks.1.mlp.gate.weight: none here, (3, 2) in the file"
        assert_refused(random_network, file, expected)

    def test_another_block(self, random_network, build, tmp_path):
        deeper = build(depths=(1, 1, 3, 1))
        file = keras_convnext.save_weights(deeper, tmp_path / "deeper.pth", format="timm")

        text = assert_refused(random_network, file)
        expected = "  stages_2_blocks_2/depthwise_conv/kernel: none here, (7, 7, 24, 1) in the file"
        assert (expected in text, len(text)) == (True, 1 + 9)

    def test_fewer_blocks(self, random_network, build, tmp_path):
        file = tmp_path / "shallower.pth"
        keras_convnext.save_weights(build(depths=(1, 1, 1, 1)), file, format="timm")

        assert len(assert_refused(random_network, file)) == 1 + 9

    def test_misshapen_weight(self, random_network, write):
        file = write({TIMM_KERNEL: torch.ones(24, 1, 5, 5)})

        expected = f"  {KERNEL}: (7, 7, 24, 1) here, (5, 5, 24, 1) in the file"
        assert_refused(random_network, file, expected)

    @pytest.mark.parametrize("shape", [(), (24,), (24, 49), (24, 1, 7, 7, 1)], ids=str)
    def test_weight_of_another_rank(self, shape, random_network, write):
        assert len(assert_refused(random_network, write({TIMM_KERNEL: torch.ones(shape)}))) == 2

    def test_transposed_weight(self, random_network, write):
        name = "stages.0.blocks.0.mlp.fc1.weight"
        file = write({name: OTHERS["timm"]().state_dict()[name].T.contiguous()})

        expected = "  stages_0_blocks_0/pointwise_conv_1/kernel: (8, 32) here, (32, 8) in the file"
        assert_refused(random_network, file, expected)

    def test_long_report_is_cut(self, random_network, build, tmp_path):
        wider = build(dims=(4, 8, 12, 16))
        file = keras_convnext.save_weights(wider, tmp_path / "wider.safetensors")
        different = len(random_network.weights) - 1  # the bias of the classifier is not

        text = assert_refused(random_network, file)

        assert (len(text), text[-1]) == (1 + 20 + 1, f"  and {different - 20} more")
        assert text[1] == "  stem/conv/kernel: (4, 4, 3, 8) here, (4, 4, 3, 4) in the file"

    def test_layer_scale_that_the_network_has_not(self, build, write):
        without = build(layer_scale_init_value=None)

        text = assert_refused(without, write())
        assert text[1] == "  stages_0_blocks_0/layer_scale/gamma: none here, (8,) in the file"
        assert len(text) == 1 + sum(DEPTHS)

    def test_layer_scale_that_the_file_has_not(self, random_network, write):
        file = write(network=timm_network(ls_init_value=None))

        text = assert_refused(random_network, file)
        assert text[1] == "  stages_0_blocks_0/layer_scale/gamma: (8,) here, none in the file"

    def test_isotropic_network(self, random_network, tmp_path):
        tensors = random_state_dict(official_isotropic_shapes(2, 16, 8, layer_scale=True))
        safetensors.torch.save_file(tensors, tmp_path / "isotropic.safetensors")

        assert_refused(random_network, tmp_path / "isotropic.safetensors")

    def test_name_in_the_file_twice(self, random_network, write):
        """Two names that mean one weight: which of them holds it cannot be known."""
        twice = {"module.stem.0.bias": torch.ones(8)}

        assert_refused(random_network, write(twice))

    @pytest.mark.parametrize("size", ["convnext_tiny", "convnext_isotropic_small"])
    def test_names_the_network_that_it_is(self, size, random_network, tmp_path):
        row = VARIANTS[size]
        if row.stem_norm:
            shapes = official_shapes(row.depths, row.dims, 1000)
        else:
            shapes = official_isotropic_shapes(18, 384, 16, layer_scale=False, classes=1000)
        # Stand-ins that take no memory.
        tensors = {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}
        torch.save({"model": tensors}, tmp_path / "checkpoint.pth")

        text = assert_refused(random_network, tmp_path / "checkpoint.pth")

        assert text[0].endswith(f"checkpoint.pth, which is a {size}:")

    def test_damage_that_shows_late_changes_nothing(self, random_network, write):
        """Types that no array has are as damaging as a missing weight."""
        file = write({"head.norm.weight": torch.ones(32).to(torch.float8_e8m0fnu)})
        before = weights_of(random_network)

        with pytest.raises(WeightsError):
            keras_convnext.load_weights(random_network, file)

        assert_same_weights(weights_of(random_network), before)


class TestClassifier:
    @pytest.fixture
    def of_seven(self, write):
        return write(network=timm_network(classes=7))

    def test_of_another_size_keeps_its_weights(self, random_network, of_seven, warnings_of_load):
        before = weights_of(random_network)

        keras_convnext.load_weights(random_network, of_seven)

        after = weights_of(random_network)
        for path in after:
            same = np.array_equal(after[path], before[path])
            assert same == path.startswith("head/"), path
        expected = timm_network(classes=7).state_dict()["stages.3.downsample.1.bias"].numpy()
        np.testing.assert_array_equal(after["stages_3_downsampling/conv/bias"], expected)
        (message,) = warnings_of_load()
        assert message == (
            f"The classifier of convnext has 5 classes and that of {of_seven} has 7: "
            f"it keeps its own weights."
        )

    def test_of_the_same_size_logs_nothing(self, network, write, warnings_of_load):
        keras_convnext.load_weights(network, write())

        assert warnings_of_load() == []

    def test_of_another_width_is_refused(self, random_network, write):
        file = write({"head.fc.weight": torch.ones(7, 30), "head.fc.bias": torch.ones(7)})

        text = assert_refused(random_network, file)
        assert "  head/kernel: (32, 5) here, (30, 7) in the file" in text

    def test_of_another_size_does_not_excuse_another_difference(self, random_network, write):
        file = write({TIMM_KERNEL: torch.ones(24, 1, 5, 5)}, timm_network(classes=7))

        text = assert_refused(random_network, file)
        assert any(KERNEL in line for line in text)

    @pytest.mark.parametrize("missing", ["head.fc.bias", "head.fc.weight"])
    def test_that_is_not_whole_is_refused(self, missing, random_network, write):
        assert_refused(random_network, write({missing: None}))

    @pytest.mark.parametrize("classes", [5, 7, 1, 21841])
    def test_classes_are_those_of_the_file(self, classes, build, write, warnings_of_load):
        timm = timm_network(classes=classes)
        model = build(classes=None, weights=write(network=timm))

        assert model.output_shape == (None, classes)
        kernel = weights_of(model)["head/kernel"]
        np.testing.assert_array_equal(kernel, timm.state_dict()["head.fc.weight"].numpy().T)
        assert warnings_of_load() == []

    def test_classes_that_are_given_stay(self, build, of_seven, warnings_of_load):
        model = build(classes=3, weights=of_seven)

        assert model.output_shape == (None, 3)
        assert len(warnings_of_load()) == 1

    def test_missing_in_the_file_is_refused(self, random_network, write):
        file = write(network=timm_network(classes=0))

        assert_refused(
            random_network,
            file,
            "  head/kernel: (32, 5) here, none in the file",
            "  head/bias: (5,) here, none in the file",
            "The file holds no classifier of a ConvNeXt; a network built with include_top=False "
            "takes its weights.",
        )

    def test_missing_in_the_file_is_refused_by_the_builder_too(self, build, write):
        file = write(network=timm_network(classes=0))

        with pytest.raises(WeightsError, match="head/kernel: .* here, none in the file"):
            build(classes=None, weights=file)


class TestNetworksWithoutATop:
    @pytest.mark.parametrize("classes", [0, 5])
    @pytest.mark.parametrize("pooling", [None, "avg", "max"])
    def test_take_the_same_files(self, pooling, classes, build, write, warnings_of_load):
        timm = timm_network(classes=classes)
        model = build(include_top=False, pooling=pooling, classes=None, weights=write(network=timm))

        weights = weights_of(model)
        assert len(weights) == len(official_shapes(classes=0))
        expected = timm.state_dict()["head.norm.bias"].numpy()
        np.testing.assert_array_equal(weights["head_norm/beta"], expected)
        assert warnings_of_load() == []

    def test_take_no_other_files(self, random_backbone, write):
        assert_refused(random_backbone, write({TIMM_KERNEL: torch.ones(24, 1, 5, 5)}))
        assert_refused(random_backbone, write({"stem.0.bias": None}))

    @pytest.mark.parametrize("include_top", [True, False])
    def test_feature_pyramid(self, include_top, build, write):
        network = build(include_top=include_top)
        pyramid = keras_convnext.feature_pyramid(network)
        for variable in pyramid.weights:
            variable.assign(np.full(variable.shape, np.nan, "float32"))

        keras_convnext.load_weights(pyramid, write())

        expected = build(weights=write())
        expected = {path: weights_of(expected)[path] for path in weights_of(pyramid)}
        assert len(expected) == len(official_shapes(classes=0)) - 2
        assert_same_weights(weights_of(pyramid), expected)

    def test_feature_pyramid_takes_no_other_file(self, build, write):
        pyramid = keras_convnext.feature_pyramid(build())

        assert_refused(pyramid, write({"stages.1.downsample.0.bias": None}))


class TestPrecision:
    @pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
    def test_mixed_precision_takes_the_values_unrounded(self, policy, build, write):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            model = build(weights=write())
        finally:
            keras.config.set_dtype_policy(before)

        assert_same_weights(weights_of(model), weights_of(build(weights=write())))

    def test_bfloat16_rounds_to_it(self, build, write):
        keras.config.set_dtype_policy("bfloat16")
        try:
            model = build(weights=write())
        finally:
            keras.config.set_dtype_policy("float32")

        weights = {path: value.astype("float32") for path, value in weights_of(model).items()}
        for path, expected in weights_of(build(weights=write())).items():
            np.testing.assert_allclose(weights[path], expected, rtol=2**-8, atol=0)


class TestModels:
    def test_that_keras_loaded_take_weights(self, build, write, tmp_path):
        build().save(tmp_path / "model.keras")
        with zeros_for_random_values():
            model = keras.saving.load_model(tmp_path / "model.keras")

        keras_convnext.load_weights(model, write())

        assert_same_weights(weights_of(model), weights_of(build(weights=write())))

    def test_on_top_of_another_model_take_weights(self, build, write):
        image = keras.Input((*SIZE, 3))
        model = build(input_tensor=keras.layers.Rescaling(2.0)(image), weights=write())

        assert_same_weights(weights_of(model), weights_of(build(weights=write())))


class TestWeightsArgument:
    """`ConvNeXt(weights=)` and the names that `create_model` understands."""

    @pytest.fixture
    def asked(self, monkeypatch):
        """What was to be fetched; nothing is."""

        class Asked(Exception):
            pass

        sources = []

        def fetch(source):
            sources.append(str(source))
            raise Asked

        def ask(call, *args, **kwargs):
            with pytest.raises(Asked):
                call(*args, **kwargs)
            return sources.pop()

        monkeypatch.setattr(weight_file, "fetch", fetch)
        return ask

    def test_gives_the_outputs_of_the_file(self, build, write):
        model = build(weights=str(write()))

        actual = model.predict(images(), verbose=0)
        assert relative_error(actual, logits(OTHERS["timm"]())) < 1e-4

    @pytest.mark.parametrize(
        ("model", "weights", "expected"),
        [
            ("convnext_tiny", "fb_in22k", "convnext_tiny.fb_in22k"),
            ("convnext_tiny", "convnext_tiny.fb_in22k", "convnext_tiny.fb_in22k"),
            ("convnext_tiny", "imagenet", "convnext_tiny.fb_in1k"),
            ("convnext_small", "imagenet", "convnext_small.fb_in1k"),
            ("convnext_base", "imagenet", "convnext_base.fb_in22k_ft_in1k"),
            ("convnext_large", "imagenet", "convnext_large.fb_in22k_ft_in1k"),
            ("convnext_xlarge", "imagenet", "convnext_xlarge.fb_in22k_ft_in1k"),
            ("convnext_isotropic_base", "imagenet", "convnext_isotropic_base.fb_in1k"),
            ("convnext_base", "fb_in1k_384", "convnext_base.fb_in1k_384"),
            # Not a tag of this network: whatever else it may be.
            ("convnext_tiny", "fb_in1k_384", "fb_in1k_384"),
            ("convnext_tiny", "tuned.pth", "tuned.pth"),
            ("convnext_tiny", "hf://timm/x", "hf://timm/x"),
        ],
    )
    def test_names(self, model, weights, expected, asked):
        assert asked(keras_convnext.create_model, model, weights=weights) == expected

    def test_names_of_a_constructor(self, asked):
        assert asked(keras_convnext.ConvNeXtBase, weights="imagenet") == (
            "convnext_base.fb_in22k_ft_in1k"
        )
        assert asked(keras_convnext.ConvNeXtIsotropicLarge, weights="fb_in1k", name="mine") == (
            "convnext_isotropic_large.fb_in1k"
        )

    def test_the_general_builder_knows_no_tags(self, asked):
        assert asked(keras_convnext.ConvNeXt, (1,), (4,), weights="fb_in1k") == "fb_in1k"

    def test_checkpoint_of_another_model(self, asked):
        expected = (
            r"convnext_small\.fb_in22k holds the weights of convnext_small, not of convnext_tiny\. "
            r"Those of convnext_tiny are: convnext_tiny\.fb_in1k, .*convnext_tiny\.fb_in22k"
        )
        with pytest.raises(WeightsError, match=expected):
            keras_convnext.create_model("convnext_tiny", weights="convnext_small.fb_in22k")

    def test_unknown_name(self):
        with pytest.raises(WeightsError, match="'convnext_tiny.fb_in1' is neither a file.*There"):
            keras_convnext.create_model("convnext_tiny", weights="convnext_tiny.fb_in1")

    @pytest.mark.parametrize(
        ("arguments", "shape"),
        [
            ({"weights": "fb_in22k_ft_in1k_384"}, (None, 384, 384, 3)),
            ({"weights": "fb_in22k_ft_in1k"}, (None, 224, 224, 3)),
            ({"weights": "fb_in22k_ft_in1k_384", "include_top": False}, (None, None, None, 3)),
            ({"weights": "fb_in22k_ft_in1k_384", "input_shape": (64, 96, 3)}, (None, 64, 96, 3)),
        ],
        ids=str,
    )
    def test_size_of_the_images(self, arguments, shape, monkeypatch, tmp_path):
        shapes = official_shapes(*TINY, 1000)
        tensors = {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}
        torch.save({"model": tensors}, tmp_path / "checkpoint.pth")
        monkeypatch.setattr(weight_file, "fetch", lambda source: tmp_path / "checkpoint.pth")

        with zeros_for_random_values():
            model = keras_convnext.ConvNeXtTiny(**arguments)

        assert model.input_shape == shape

    def test_isotropic_network_from_a_checkpoint(self, monkeypatch, tmp_path):
        """The small one has no layer scale: neither in the table nor in the file."""
        shapes = official_isotropic_shapes(18, 384, 16, layer_scale=False, classes=1000)
        tensors = {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}
        tensors["head.bias"] = torch.arange(1000.0)
        torch.save({"model": tensors}, tmp_path / "checkpoint.pth")
        monkeypatch.setattr(weight_file, "fetch", lambda source: tmp_path / "checkpoint.pth")

        with zeros_for_random_values():
            model = keras_convnext.ConvNeXtIsotropicSmall(weights="fb_in1k")

        np.testing.assert_array_equal(weights_of(model)["head/bias"], np.arange(1000))

    def test_files_are_not_kept_open_under_the_model(self, build, write, tmp_path):
        """What was loaded stays when the file is overwritten."""
        file = write()
        model = build(weights=file)
        before = weights_of(model)
        zeros = np.zeros(file.stat().st_size, "uint8")
        with file.open("r+b") as opened:
            opened.write(zeros.tobytes())

        assert_same_weights(weights_of(model), before)
        shutil.rmtree(tmp_path)


@pytest.mark.parametrize("project", ["transformers", "torchvision"])
def test_heads_of_other_projects_may_be_of_another_size(
    project, random_network, tmp_path, warnings_of_load
):
    make = {"transformers": transformers_network, "torchvision": torchvision_network}[project]
    torch.save(make(classes=7).state_dict(), tmp_path / "model.pth")
    set_random_weights(random_network, seed=3)

    keras_convnext.load_weights(random_network, tmp_path / "model.pth")

    assert len(warnings_of_load()) == 1


def test_the_toy_network_has_a_layer_of_every_kind():
    assert len(DEPTHS) == len(DIMS) == 4
    assert max(DEPTHS) > 1
