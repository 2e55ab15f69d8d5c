"""Files as people have them: prefixes, checkpoints of training, averages, heads of their own."""

import argparse
import collections
import logging
import shutil

import keras
import numpy as np
import pytest
import safetensors.torch
import torch
from other_projects import (
    CLASSES,
    HEADLESS,
    OTHERS,
    SIZE,
    assert_same_weights,
    official_shapes,
    random_state_dict,
    set_random_weights,
    timm_network,
    weights_of,
)

import keras_convnext
from keras_convnext.errors import WeightsError
from keras_convnext.weights.tensor_files import pytorch_file
from keras_convnext.weights.weight_file import WeightFile

INSIDE = {"include_top": False, "pooling": "avg"}
PREFIXES = [
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
    "backbone.",
    "encoder.",
    "module._orig_mod.",
    "_orig_mod.module.model.backbone.",
    "0.",
    "some.path.of.ones.own.",
]


def with_prefix(state_dict, prefix):
    return {prefix + name: tensor for name, tensor in state_dict.items()}


def save(state_dict, path):
    """Writes a state dict in the kind of file that the path says."""
    if path.suffix == ".safetensors":
        state_dict = {name: tensor.clone().contiguous() for name, tensor in state_dict.items()}
        safetensors.torch.save_file(state_dict, path)
    else:
        torch.save(state_dict, path)
    return path


@pytest.fixture
def warnings(caplog):
    """Returns a function that gives what was logged since, and forgets it."""
    caplog.set_level(logging.WARNING, logger="keras_convnext")

    def messages():
        texts = [
            record.getMessage()
            for record in caplog.records
            if record.name.startswith("keras_convnext")
        ]
        caplog.clear()
        return texts

    return messages


@pytest.fixture(scope="module")
def values():
    """Returns a function that gives our weights of a file."""

    def read(path):
        stored = WeightFile(path)
        assert stored.unexpected == {}
        return {name: stored.read(name) for name in stored.shapes}

    return read


@pytest.fixture(scope="module")
def of_timm(values, tmp_path_factory):
    """Our weights of timm's network, without any prefix."""
    path = tmp_path_factory.mktemp("plain") / "a.pth"
    return values(save(OTHERS["timm"]().state_dict(), path))


@pytest.mark.backend_free
class TestPrefixes:
    @pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".bin", ".safetensors"])
    @pytest.mark.parametrize("prefix", PREFIXES)
    def test_stand_before_every_name(self, prefix, suffix, values, of_timm, tmp_path):
        state_dict = with_prefix(OTHERS["timm"]().state_dict(), prefix)

        stored = WeightFile(save(state_dict, tmp_path / f"a{suffix}"))

        assert (stored.format.name, stored.left_out) == ("timm", [])
        assert_same_weights(values(tmp_path / f"a{suffix}"), of_timm)

    @pytest.mark.parametrize("prefix", ["model.", "module._orig_mod.net."])
    @pytest.mark.parametrize("project", OTHERS)
    def test_of_every_project(self, project, prefix, values, tmp_path):
        state_dict = OTHERS[project]().state_dict()
        expected = values(save(state_dict, tmp_path / "plain.pth"))

        path = save(with_prefix(state_dict, prefix), tmp_path / "a.safetensors")

        assert_same_weights(values(path), expected)

    @pytest.mark.parametrize("wrapper", ["_orig_mod.", "_fsdp_wrapped_module.", "module."])
    def test_of_a_part_that_was_wrapped_alone(self, wrapper, values, of_timm, tmp_path):
        state_dict = {
            name.replace("stages.2.", f"stages.2.{wrapper}").replace("head.", f"{wrapper}head."): v
            for name, v in OTHERS["timm"]().state_dict().items()
        }

        assert_same_weights(values(save(state_dict, tmp_path / "a.pt")), of_timm)

    def test_are_no_parts_of_words(self, tmp_path):
        """`my_stem.0.weight` is not the weight `stem.0.weight`."""
        state_dict = with_prefix(OTHERS["timm"]().state_dict(), "my_")

        with pytest.raises(WeightsError, match="holds no ConvNeXt of a known format"):
            WeightFile(save(state_dict, tmp_path / "a.pth"))

    def test_differences_are_named_as_in_the_file(self, tmp_path):
        state_dict = with_prefix(OTHERS["timm"]().state_dict(), "model.")
        state_dict["model.stages.0.blocks.0.extra"] = torch.ones(2)

        stored = WeightFile(save(state_dict, tmp_path / "a.pth"))

        assert stored.unexpected == {"model.stages.0.blocks.0.extra": (2,)}

    def test_two_networks_cannot_be_told_apart(self, tmp_path):
        state_dict = OTHERS["timm"]().state_dict()
        both = with_prefix(state_dict, "student.") | with_prefix(state_dict, "teacher.")

        expected = r"2 ConvNeXts.* begin with 'student\.', 'teacher\.'.*alone"
        with pytest.raises(WeightsError, match=expected):
            WeightFile(save(both, tmp_path / "a.pth"))


@pytest.mark.backend_free
class TestCheckpoints:
    """What a `.pth` may hold the state dict under."""

    @pytest.mark.parametrize("key", pytorch_file.STATE_DICT_KEYS + pytorch_file.AVERAGE_KEYS)
    def test_key(self, key, values, of_timm, tmp_path):
        optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
        checkpoint = {"epoch": 3, "optimizer": optimizer, key: OTHERS["timm"]().state_dict()}

        assert_same_weights(values(save(checkpoint, tmp_path / "a.pth")), of_timm)

    @pytest.mark.parametrize("order", [1, -1])
    @pytest.mark.parametrize("average", ["model_ema", "state_dict_ema", "ema_state_dict"])
    @pytest.mark.parametrize("key", ["model", "state_dict"])
    def test_average_beside_the_weights(self, key, average, order, values, of_timm, tmp_path):
        """The weights are taken, in whatever order they stand in the file."""
        state_dict = OTHERS["timm"]().state_dict()
        zeros = {name: torch.zeros_like(tensor) for name, tensor in state_dict.items()}
        checkpoint = dict([(key, state_dict), (average, zeros)][::order])

        path = save(checkpoint, tmp_path / "a.pth")

        assert_same_weights(values(path), of_timm)
        (sentence,) = WeightFile(path).left_out
        assert f"under {key!r} and their moving average under {average!r}" in sentence

    @pytest.mark.parametrize("average", ["ema_model.module.", "ema.", "model_ema.", "swa_model."])
    @pytest.mark.parametrize("prefix", ["model.", "", "backbone."])
    def test_average_in_one_state_dict(self, prefix, average, values, of_timm, tmp_path):
        state_dict = OTHERS["timm"]().state_dict()
        zeros = {name: torch.zeros_like(tensor) for name, tensor in state_dict.items()}
        both = with_prefix(zeros, average) | with_prefix(state_dict, prefix)

        path = save(both, tmp_path / "a.safetensors")

        assert_same_weights(values(path), of_timm)
        (sentence,) = WeightFile(path).left_out
        assert f"their moving average under '{average.replace('module.', '')}'" in sentence

    def test_average_alone(self, values, of_timm, tmp_path):
        """As `torch.optim.swa_utils.AveragedModel` is saved, which counts its updates."""
        averaged = torch.optim.swa_utils.AveragedModel(OTHERS["timm"]())

        path = save(averaged.state_dict(), tmp_path / "a.pth")

        assert_same_weights(values(path), of_timm)
        assert WeightFile(path).left_out == []

    def test_of_lightning(self, values, of_timm, tmp_path):
        checkpoint = {
            "epoch": 3,
            "pytorch-lightning_version": "2.5.0",
            "state_dict": with_prefix(OTHERS["timm"]().state_dict(), "net."),
            "callbacks": {"ModelCheckpoint{'monitor': 'loss'}": {"best": torch.tensor(0.5)}},
            "hyper_parameters": {"lr": 1e-3, "name": "mine"},
        }

        assert_same_weights(values(save(checkpoint, tmp_path / "a.ckpt")), of_timm)

    def test_in_a_dict_of_a_dict(self, values, of_timm, tmp_path):
        checkpoint = {"model": {"state_dict": OTHERS["timm"]().state_dict(), "name": "mine"}}

        assert_same_weights(values(save(checkpoint, tmp_path / "a.pth")), of_timm)

    def test_beside_numbers_of_numpy(self, values, of_timm, tmp_path):
        checkpoint = {
            "state_dict": collections.OrderedDict(OTHERS["timm"]().state_dict()),
            "best_accuracy": np.float64(0.9),
            "counts": [np.int64(3), np.float32(0.5), np.bool_(True)],
            "args": argparse.Namespace(lr=0.1),
        }

        assert_same_weights(values(save(checkpoint, tmp_path / "a.pth")), of_timm)

    def test_without_a_known_key_names_the_keys(self, tmp_path):
        checkpoint = {"epoch": 1, "mine": OTHERS["timm"]().state_dict()}

        with pytest.raises(WeightsError, match=r"holds no state dict.* 'model', .*'epoch', 'mine'"):
            WeightFile(save(checkpoint, tmp_path / "a.pth"))


class Wrapper(torch.nn.Module):
    """A network of PyTorch with a backbone and a head of its own."""

    def __init__(self, head, backbone=None):
        super().__init__()
        self.backbone = backbone or HEADLESS["timm"]()
        self.head = head


class TestHeadsOfTheirOwn:
    @pytest.fixture(params=[".pth", ".safetensors"])
    def wrapped(self, request, tmp_path):
        wrapper = Wrapper(torch.nn.Linear(32, CLASSES))
        return save(wrapper.state_dict(), tmp_path / f"a{request.param}")

    def test_stay_in_the_file(self, wrapped, random_backbone, values, warnings):
        keras_convnext.load_weights(random_backbone, wrapped)

        assert_same_weights(weights_of(random_backbone), values(wrapped))
        (message,) = warnings()
        assert message.startswith(
            f"{wrapped} holds weights that are not a ConvNeXt's and are not loaded:"
        )
        assert "head.weight (5, 32)" in message
        assert "head.bias (5,)" in message

    def test_do_not_fill_a_classifier_of_ours(self, wrapped, random_network, warnings):
        before = weights_of(random_network)

        expected = r"(?s)head/kernel: \(32, 5\) here, none.*include_top=False.*head\.weight \(5, 32"
        with pytest.raises(WeightsError, match=expected):
            keras_convnext.load_weights(random_network, wrapped)

        assert_same_weights(weights_of(random_network), before)
        assert warnings() == []

    def test_are_left_out_of_what_is_built_from_the_file(self, wrapped, warnings):
        model = keras_convnext.model_from_weights(wrapped, include_preprocessing=False)

        assert model.output_shape[-1] == 32
        assert len(warnings()) == 1

    def test_are_left_out_of_a_conversion(self, wrapped, values, tmp_path, warnings):
        file = keras_convnext.convert_weights(wrapped, tmp_path / "b.safetensors", "timm")

        assert_same_weights(values(file), values(wrapped))
        assert "head.weight" in warnings()[0]

    @pytest.mark.parametrize(
        ("project", "place"),
        [("timm", "head.fc"), ("transformers", "classifier"), ("torchvision", "classifier.2")],
    )
    def test_in_the_place_of_the_classifier(
        self, project, place, random_backbone, tmp_path, warnings
    ):
        state_dict = {
            name.replace(f"{place}.", f"{place}.1.") if name.startswith(f"{place}.") else name: v
            for name, v in OTHERS[project]().state_dict().items()
        }

        keras_convnext.load_weights(random_backbone, save(state_dict, tmp_path / "a.pth"))

        (message,) = warnings()
        assert f"{place}.1.weight (5, 32)" in message

    def test_in_the_place_of_the_official_classifier(self, random_backbone, tmp_path, warnings):
        state_dict = random_state_dict(official_shapes(classes=0))
        state_dict |= {"head.1.weight": torch.ones(7, 32), "head.1.bias": torch.ones(7)}

        keras_convnext.load_weights(random_backbone, save(state_dict, tmp_path / "a.pth"))

        assert "head.1.weight (7, 32), head.1.bias (7,)" in warnings()[0]

    def test_around_a_network_of_transformers(self, random_backbone, values, tmp_path, warnings):
        wrapper = Wrapper(torch.nn.Linear(32, 3), HEADLESS["transformers"]())

        keras_convnext.load_weights(random_backbone, save(wrapper.state_dict(), tmp_path / "a.pt"))

        assert len(warnings()) == 1


class TestFilesOfKerasModels:
    """`.keras` and `.weights.h5` of models that hold a network of ours or of keras.applications."""

    @pytest.fixture(params=[".keras", ".weights.h5"])
    def saved(self, request, tmp_path):
        def save(model):
            path = tmp_path / f"model{request.param}"
            (model.save if request.param == ".keras" else model.save_weights)(path)
            return path

        return save

    def test_sequential(self, saved, build, random_backbone, backbone, warnings):
        model = keras.Sequential([random_backbone, keras.layers.Dense(2, name="mine")])
        expected = weights_of(random_backbone)
        file = saved(model)
        other = build(**INSIDE)

        keras_convnext.load_weights(other, file)

        assert_same_weights(weights_of(other), expected)
        (message,) = warnings()
        assert message.endswith("mine/0 (32, 2), mine/1 (2,).")

    def test_functional(self, saved, build, warnings):
        grey = keras.Input((*SIZE, 1))
        rgb = keras.layers.Conv2D(3, 1, name="colours")(grey)
        network = build(**INSIDE, input_shape=None, input_tensor=rgb)
        set_random_weights(network)
        model = keras.Model(grey, keras.layers.Dense(2, name="mine")(network.output))
        other = build(**INSIDE)

        keras_convnext.load_weights(other, saved(model))

        expected = weights_of(network)
        assert_same_weights(weights_of(other), {path: expected[path] for path in weights_of(other)})
        (message,) = warnings()
        assert "colours/0 (1, 1, 1, 3)" in message
        assert "mine/0 (32, 2)" in message

    def test_two_networks_cannot_be_told_apart(self, saved, build):
        images = keras.Input((*SIZE, 3))
        small = {"depths": (1,), "dims": (4,), **INSIDE}
        model = keras.Model(images, [build(**small, name=name)(images) for name in ("a", "b")])

        with pytest.raises(WeightsError, match="2 ConvNeXts.*'a/', 'b/'"):
            WeightFile(saved(model))

    def test_keras_applications(self, saved, random_backbone, warnings):
        from other_projects import keras_network

        inner = keras_network(include_top=False)
        model = keras.Sequential([inner, keras.layers.Dense(2, name="mine")])

        keras_convnext.load_weights(random_backbone, saved(model))

        expected = weights_of(inner)
        kernel = next(v for path, v in expected.items() if path.endswith("stem_conv/kernel"))
        np.testing.assert_array_equal(weights_of(random_backbone)["stem/conv/kernel"], kernel)
        assert "mine/0 (32, 2)" in warnings()[0]


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="only here a model is a module")
class TestStateDictsOfOurOwn:
    @pytest.fixture
    def model(self, build):
        model = build(drop_path_rate=0.2)
        set_random_weights(model)
        return model

    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_of_a_model(self, suffix, model, values, tmp_path, warnings):
        path = save(model.state_dict(), tmp_path / f"a{suffix}")

        assert_same_weights(values(path), weights_of(model))
        assert WeightFile(path).left_out == []

    def test_of_a_module_around_it(self, model, values, tmp_path):
        wrapper = Wrapper(torch.nn.Linear(5, 2), model)
        path = save(wrapper.state_dict(), tmp_path / "a.pth")

        assert_same_weights(values(path), weights_of(model))
        assert "head.weight (2, 5)" in WeightFile(path).left_out[0]

    def test_of_a_keras_model_around_it(self, model, values, tmp_path):
        """Keras repeats the weights in what stands around: under two prefixes, or three."""

        class Around(keras.Model):
            def __init__(self, inner, size):
                super().__init__()
                self.inner = inner
                self.own = keras.layers.Dense(size, name="mine")

            def call(self, images):
                return self.own(self.inner(images))

        around = Around(Around(model, 3), 2)
        around(np.zeros((1, *SIZE, 3), "float32"))
        path = save(around.state_dict(), tmp_path / "a.pth")

        assert_same_weights(values(path), weights_of(model))
        assert "mine/kernel" in WeightFile(path).left_out[0]

    def test_of_two_networks(self, build, tmp_path):
        images = keras.Input((*SIZE, 3))
        small = {"depths": (1,), "dims": (4,), **INSIDE}

        class Two(keras.Model):
            def __init__(self):
                super().__init__()
                self.a, self.b = build(**small, name="a"), build(**small, name="b")

            def call(self, images):
                return self.a(images) + self.b(images)

        two = Two()
        two(images)

        with pytest.raises(WeightsError, match="2 ConvNeXts"):
            WeightFile(save(two.state_dict(), tmp_path / "a.pth"))


def test_a_renamed_file_is_told_by_its_content(network, tmp_path):
    file = save(timm_network().state_dict(), tmp_path / "a.safetensors")
    shutil.move(file, tmp_path / "checkpoint.pt")

    keras_convnext.load_weights(network, tmp_path / "checkpoint.pt")

    assert np.isfinite(weights_of(network)["stem/conv/kernel"]).all()
