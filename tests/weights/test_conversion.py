"""Weights in one form become the same weights in another."""

import errno
import importlib.util
import subprocess
import sys

import keras
import numpy as np
import pytest
import safetensors.torch
import torch
from comparison import relative_error, zeros_for_random_values
from other_projects import (
    HEADLESS,
    ISOTROPIC,
    OTHERS,
    assert_same_weights,
    images,
    logits,
    official_isotropic_shapes,
    random_state_dict,
    set_random_weights,
    weights_of,
)

import keras_convnext
from keras_convnext import convert_weights, model_from_weights
from keras_convnext.errors import MissingPackage, WeightsError
from keras_convnext.weights.weight_file import WeightFile

KERAS_FILES = (".keras", ".weights.h5")
FORMATS = (None, "official", "timm", "transformers", "torchvision", "safetensors")


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "source" / "model.safetensors"
    file.parent.mkdir()
    safetensors.torch.save_file(OTHERS["timm"]().state_dict(), file)
    return file


@pytest.fixture(autouse=True)
def quick():
    """JAX would draw random values that the file's replace."""
    with zeros_for_random_values():
        yield


def contents(path):
    """Returns all weights of a file under our paths."""
    stored = WeightFile(path)
    return {name: np.array(stored.read(name)) for name in stored.shapes}


class TestForms:
    @pytest.mark.parametrize("suffix", KERAS_FILES)
    def test_to_files_of_keras(self, suffix, source, tmp_path):
        file = tmp_path / "new" / f"model{suffix}"

        assert convert_weights(source, str(file)) == file

        assert_same_weights(contents(file), contents(source))
        assert [path.name for path in file.parent.iterdir()] == [file.name]

    @pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
    @pytest.mark.parametrize("format", FORMATS)
    def test_to_tensors(self, suffix, format, source, tmp_path):
        file = tmp_path / "new" / f"model{suffix}"

        assert convert_weights(str(source), file, format=format) == file

        assert_same_weights(contents(file), contents(source))
        default = "official" if suffix == ".pth" else "safetensors"
        assert WeightFile(file).format.name == (format or default)
        assert [path.name for path in file.parent.iterdir()] == [file.name]

    @pytest.mark.parametrize("first", [".keras", ".weights.h5", ".pth", ".safetensors"])
    def test_there_and_back_is_bit_for_bit(self, first, source, tmp_path):
        between = convert_weights(source, tmp_path / f"between{first}")
        back = convert_weights(between, tmp_path / "back.safetensors", format="timm")

        actual = safetensors.torch.load_file(back)
        expected = OTHERS["timm"]().state_dict()
        assert actual.keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.equal(actual[name], tensor), name

    def test_load_weights_takes_the_new_file(self, source, network, tmp_path):
        file = convert_weights(source, tmp_path / "model.weights.h5")

        keras_convnext.load_weights(network, file)

        actual = network.predict(images(), verbose=0)
        assert relative_error(actual, logits(OTHERS["timm"]())) < 1e-4

    def test_over_the_source_itself(self, source):
        expected = contents(source)

        convert_weights(source, source, format="official")

        assert WeightFile(source).format.name == "official"
        assert_same_weights(contents(source), expected)

    def test_half_precision_becomes_float32(self, source, tmp_path):
        halves = {name: t.half() for name, t in OTHERS["timm"]().state_dict().items()}
        safetensors.torch.save_file(halves, source)
        file = convert_weights(source, tmp_path / "model.safetensors", format="timm")

        for name, tensor in safetensors.torch.load_file(file).items():
            assert torch.equal(tensor, halves[name].float()), name


class TestKerasModel:
    @pytest.fixture
    def model(self, source, tmp_path):
        convert_weights(source, tmp_path / "model.keras")
        return keras.saving.load_model(tmp_path / "model.keras")

    def test_is_one_of_ours_with_the_defaults(self, model):
        reference = keras_convnext.ConvNeXt((1, 1, 2, 1), (8, 16, 24, 32), classes=5)

        assert model.name == reference.name
        assert (model.input_shape, model.output_shape) == ((None, 224, 224, 3), (None, 5))
        assert model.get_layer("head").activation is keras.activations.softmax
        names = [
            [layer.name for layer in m.layers if "normalization" not in layer.name]
            for m in (model, reference)
        ]
        assert names[0][1:] == names[1][1:]  # the first is the input

    def test_has_the_weights_of_the_source(self, model, source, build):
        assert_same_weights(weights_of(model), weights_of(build(weights=source)))

    def test_takes_part_in_everything_that_ours_do(self, model, tmp_path):
        keras_convnext.save_weights(model, tmp_path / "again.pth", format="timm")

        again = torch.load(tmp_path / "again.pth", weights_only=True)
        for name, tensor in OTHERS["timm"]().state_dict().items():
            assert torch.equal(again[name], tensor), name

    def test_of_a_published_size_has_its_name(self, tmp_path):
        import timm

        with torch.device("meta"):
            network = timm.create_model("convnext_tiny", num_classes=3)
        tensors = {n: torch.zeros(1).expand(t.shape) for n, t in network.state_dict().items()}
        torch.save(tensors, tmp_path / "a.pth")

        model = model_from_weights(tmp_path / "a.pth", input_shape=(64, 64, 3))

        assert model.name == "convnext_tiny"
        assert (model.input_shape, model.output_shape) == ((None, 64, 64, 3), (None, 3))

    @pytest.mark.parametrize(("tag", "size"), [("fb_in1k_384", 384), ("fb_in1k", 224)])
    def test_of_a_checkpoint_has_its_image_size(self, tag, size, source, monkeypatch, tmp_path):
        name = f"convnext_base.{tag}"
        monkeypatch.setattr(
            "keras_convnext.weights.weight_file.fetch", lambda one: {name: source}[str(one)]
        )

        convert_weights(name, tmp_path / "model.keras")

        model = keras.saving.load_model(tmp_path / "model.keras")
        assert model.input_shape == (None, size, size, 3)


class TestOtherNetworks:
    @pytest.mark.parametrize("layer_scale", [True, False], ids=["layer scale", "no layer scale"])
    @pytest.mark.parametrize("suffix", [*KERAS_FILES, ".safetensors", ".pth"])
    def test_isotropic(self, suffix, layer_scale, tmp_path):
        shapes = official_isotropic_shapes(**ISOTROPIC, layer_scale=layer_scale)
        tensors = random_state_dict(shapes)
        torch.save({"model": tensors}, tmp_path / "source.pth")

        file = convert_weights(tmp_path / "source.pth", tmp_path / f"new{suffix}")

        assert_same_weights(contents(file), contents(tmp_path / "source.pth"))
        back = convert_weights(file, tmp_path / "back.pth")
        actual = torch.load(back, weights_only=True)["model"]
        assert actual.keys() == tensors.keys()
        assert all(torch.equal(actual[name], tensors[name]) for name in tensors)

    @pytest.mark.parametrize("project", HEADLESS)
    @pytest.mark.parametrize("suffix", [*KERAS_FILES, ".safetensors", ".pth"])
    def test_without_a_head(self, suffix, project, tmp_path):
        torch.save(HEADLESS[project]().state_dict(), tmp_path / "source.pth")

        file = convert_weights(tmp_path / "source.pth", tmp_path / f"new{suffix}")

        assert_same_weights(contents(file), contents(tmp_path / "source.pth"))
        assert WeightFile(file).classes is None
        if suffix == ".keras":
            model = keras.saving.load_model(file)
            assert model.input_shape == (None, None, None, 3)
            assert model.output_shape[-1] == 32

    def test_own_run_with_stochastic_depth(self, build, tmp_path):
        model = build(drop_path_rate=0.5)
        set_random_weights(model)
        model.compile(keras_convnext.optimizers.AdamW(1e-3), "mse")
        model.optimizer.build(model.trainable_variables)
        model.save(tmp_path / "last.keras")

        file = convert_weights(tmp_path / "last.keras", tmp_path / "last.safetensors")

        assert_same_weights(contents(file), weights_of(model))


class TestRefusals:
    @pytest.mark.parametrize("suffix", KERAS_FILES)
    def test_format_of_a_file_of_keras(self, suffix, source, tmp_path):
        with pytest.raises(WeightsError, match=f"model{suffix} is a file of Keras.*no `format`"):
            convert_weights(source, tmp_path / f"model{suffix}", format="timm")

    def test_unknown_format(self, source, tmp_path):
        with pytest.raises(WeightsError, match="`format` must be one of .*Received: 'tf'"):
            convert_weights(source, tmp_path / "model.pth", format="tf")

    @pytest.mark.parametrize("name", ["model.h5", "model", "model.onnx", "model.tflite"])
    def test_unknown_suffix_names_every_one_that_is_known(self, name, source, tmp_path):
        with pytest.raises(WeightsError) as caught:
            convert_weights(source, tmp_path / name)

        for part in (".keras", ".weights.h5", ".safetensors", ".pth", name):
            assert part in str(caught.value)

    def test_isotropic_as_timm(self, tmp_path):
        shapes = official_isotropic_shapes(**ISOTROPIC, layer_scale=True)
        torch.save(random_state_dict(shapes), tmp_path / "source.pth")

        with pytest.raises(WeightsError, match="timm has no network without"):
            convert_weights(tmp_path / "source.pth", tmp_path / "new.pth", format="timm")

    @pytest.mark.parametrize("suffix", [*KERAS_FILES, ".safetensors", ".pth"])
    def test_more_than_the_weights_of_a_convnext(self, suffix, source, tmp_path):
        tensors = OTHERS["timm"]().state_dict() | {"stages.0.blocks.0.mlp.gate.bias": torch.ones(3)}
        safetensors.torch.save_file(tensors, source)

        expected = r"holds weights that no ConvNeXt has, such as stages\.0\.blocks\.0\.mlp\.gate"
        with pytest.raises(WeightsError, match=expected):
            convert_weights(source, tmp_path / f"new{suffix}")
        assert not (tmp_path / f"new{suffix}").exists()

    @pytest.mark.parametrize(
        "missing",
        ["stages.2.blocks.1.mlp.fc2.bias", "stages.1.downsample.1.weight", "head.norm.weight"],
    )
    @pytest.mark.parametrize("suffix", [*KERAS_FILES, ".safetensors", ".pth"])
    def test_less_than_the_weights_of_a_convnext(self, suffix, missing, source, tmp_path):
        """A file that nothing could load would be written without a word."""
        tensors = OTHERS["timm"]().state_dict()
        del tensors[missing]
        safetensors.torch.save_file(tensors, source)

        with pytest.raises(WeightsError):
            convert_weights(source, tmp_path / f"new{suffix}")
        assert not (tmp_path / f"new{suffix}").exists()

    def test_pth_without_pytorch(self, source, tmp_path, without_pytorch):
        assert importlib.util.find_spec("torch") is None

        with pytest.raises(MissingPackage, match=r"write new\.pth, is not installed"):
            convert_weights(source, tmp_path / "new.pth")
        convert_weights(source, tmp_path / "new.safetensors", format="timm")

    def test_no_source(self, tmp_path):
        with pytest.raises(WeightsError, match=r"nothing\.pth' is neither a file"):
            convert_weights(tmp_path / "nothing.pth", tmp_path / "new.keras")

    @pytest.mark.parametrize("suffix", [*KERAS_FILES, ".safetensors"])
    def test_folder_that_is_a_file(self, suffix, source, tmp_path):
        (tmp_path / "taken").write_text("")

        with pytest.raises(WeightsError, match="cannot be written"):
            convert_weights(source, tmp_path / "taken" / f"new{suffix}")

    @pytest.mark.parametrize("suffix", [*KERAS_FILES, ".safetensors", ".pth"])
    def test_disk_that_is_full_leaves_the_earlier_file(self, suffix, source, tmp_path, monkeypatch):
        file = tmp_path / "new" / f"model{suffix}"
        file.parent.mkdir()
        file.write_bytes(b"earlier")

        def full(*args, **kwargs):
            raise OSError(errno.ENOSPC, "No space left on device")

        # Where Keras writes the layers, with the file open.
        monkeypatch.setattr("keras.src.saving.saving_lib._save_state", full)
        monkeypatch.setattr("safetensors.numpy.save_file", full)
        monkeypatch.setattr("torch.save", full)

        with pytest.raises(WeightsError, match="cannot be written: No space left"):
            convert_weights(source, file)
        assert file.read_bytes() == b"earlier"
        assert list(file.parent.iterdir()) == [file]


@pytest.mark.backend_free
def test_tensors_to_tensors_starts_no_backend(source, tmp_path):
    code = (
        "import sys; from keras_convnext.conversion import convert_weights;"
        f"convert_weights({str(source)!r}, {str(tmp_path / 'new.safetensors')!r}, 'official');"
        "assert not {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], check=True)

    assert_same_weights(contents(tmp_path / "new.safetensors"), contents(source))
