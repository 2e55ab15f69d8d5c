"""Files that `save_weights` writes load strictly in the other projects' own networks."""

import errno
import resource

import keras
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from comparison import relative_error
from other_projects import (
    ISOTROPIC,
    OTHERS,
    assert_same_weights,
    images,
    isotropic_network,
    logits,
    official_isotropic_shapes,
    official_network,
    official_shapes,
    random_state_dict,
    set_random_weights,
    timm_network,
    torchvision_network,
    transformers_network,
    weights_of,
)

import keras_convnext
from keras_convnext.errors import MissingPackage, WeightsError

FORMATS = ("official", "timm", "transformers", "torchvision")
SUFFIXES = (".safetensors", ".pth")


def read(file, format):
    """Returns a file's tensors as PyTorch reads them."""
    if file.suffix == ".safetensors":
        return safetensors.torch.load_file(file)
    loaded = torch.load(file, weights_only=True)
    if format == "official":
        assert loaded.keys() == {"model"}
        return loaded["model"]
    return loaded


def strictly_loaded(file, format, classes=5):
    """Returns the project's own network with the weights of a file."""
    state_dict = read(file, format)
    if format == "official":
        return official_network(state_dict)
    make = {"timm": timm_network, "transformers": transformers_network}
    network = {**make, "torchvision": torchvision_network}[format](classes)
    network.load_state_dict(state_dict, strict=True)
    return network


@pytest.fixture(scope="session")
def written(shared_network):
    """A network's random weights and its outputs with them."""
    set_random_weights(shared_network, seed=7)
    return weights_of(shared_network), shared_network.predict(images(), verbose=0)


@pytest.fixture
def model(shared_network, written):
    """The network that `written` is of."""
    for variable in shared_network.weights:
        variable.assign(written[0][variable.path])
    return shared_network


class TestOtherProjects:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("format", FORMATS)
    def test_load_it_strictly_and_give_its_logits(self, format, suffix, model, written, tmp_path):
        file = tmp_path / f"model{suffix}"

        assert keras_convnext.save_weights(model, str(file), format=format) == file

        network = strictly_loaded(file, format)
        assert relative_error(logits(network), written[1]) < 1e-4
        dtypes = {tensor.dtype for tensor in read(file, format).values()}
        assert dtypes == {torch.float32}

    @pytest.mark.parametrize("format", ["official", "timm", "transformers"])
    def test_load_it_without_a_top(self, format, random_backbone, tmp_path):
        file = tmp_path / "model.safetensors"
        keras_convnext.save_weights(random_backbone, file, format=format)
        expected = random_backbone.predict(images(), verbose=0)

        network = strictly_loaded(file, format, classes=0)

        assert relative_error(logits(network), expected) < 1e-4

    def test_torchvision_misses_only_the_head_without_a_top(self, random_backbone, tmp_path):
        file = tmp_path / "model.safetensors"
        keras_convnext.save_weights(random_backbone, file, format="torchvision")
        head = {"classifier.2.weight", "classifier.2.bias"}

        missing, unexpected = torchvision_network().load_state_dict(
            safetensors.torch.load_file(file), strict=False
        )

        assert (set(missing), unexpected) == (head, [])

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("layer_scale", [True, False], ids=["layer scale", "no layer scale"])
    def test_load_an_isotropic_network(self, layer_scale, suffix, isotropic, tmp_path):
        network = isotropic(layer_scale)
        set_random_weights(network)
        file = tmp_path / f"model{suffix}"
        keras_convnext.save_weights(network, file, format="official")
        tensors = read(file, "official")

        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        assert shapes == official_isotropic_shapes(**ISOTROPIC, layer_scale=layer_scale)
        expected = logits(isotropic_network(tensors))
        assert relative_error(network.predict(images(), verbose=0), expected) < 1e-4

    def test_transformers_from_pretrained(self, model, written, tmp_path):
        import transformers

        OTHERS["transformers"]().config.save_pretrained(tmp_path)
        keras_convnext.save_weights(model, tmp_path / "model.safetensors", format="transformers")

        network, report = transformers.ConvNextForImageClassification.from_pretrained(
            tmp_path, output_loading_info=True
        )

        assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys"))
        assert relative_error(logits(network), written[1]) < 1e-4

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_timm_load_checkpoint(self, suffix, model, written, tmp_path):
        import timm

        file = tmp_path / f"model{suffix}"
        keras_convnext.save_weights(model, file, format="timm")
        network = timm_network()

        timm.models.load_checkpoint(network, str(file), strict=True)

        assert relative_error(logits(network), written[1]) < 1e-4

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("format", FORMATS)
    def test_gets_back_bit_for_bit_what_it_wrote(self, format, suffix, network, tmp_path):
        theirs = (
            random_state_dict(official_shapes())
            if format == "official"
            else OTHERS[format]().state_dict()
        )
        torch.save(theirs, tmp_path / "theirs.pth")
        keras_convnext.load_weights(network, tmp_path / "theirs.pth")

        keras_convnext.save_weights(network, tmp_path / f"ours{suffix}", format=format)

        ours = read(tmp_path / f"ours{suffix}", format)
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            assert torch.equal(ours[name], tensor), name


class TestOwnFormat:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_holds_what_keras_holds_under_its_paths(self, suffix, model, written, tmp_path):
        file = keras_convnext.save_weights(model, tmp_path / f"model{suffix}", "safetensors")

        tensors = {name: tensor.numpy() for name, tensor in read(file, "safetensors").items()}
        assert_same_weights(tensors, written[0])

    def test_is_the_default(self, model, written, tmp_path):
        file = keras_convnext.save_weights(model, tmp_path / "model.safetensors")

        assert_same_weights(safetensors.numpy.load_file(file), written[0])

    @pytest.mark.parametrize("format", [*FORMATS, "safetensors"])
    def test_says_whose_layout_it_is(self, format, model, tmp_path):
        file = keras_convnext.save_weights(model, tmp_path / "model.safetensors", format)

        with safetensors.safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata()
        # transformers refuses a file that does not say "pt"; ours is no layout of PyTorch.
        assert metadata == (None if format == "safetensors" else {"format": "pt"})

    @pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16"])
    def test_is_float32_whatever_the_policy(self, policy, build, tmp_path):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            model = build(depths=(1,), dims=(4,))
        finally:
            keras.config.set_dtype_policy(before)
        file = keras_convnext.save_weights(model, tmp_path / "model.safetensors")

        tensors = safetensors.numpy.load_file(file)
        assert {tensor.dtype for tensor in tensors.values()} == {np.dtype("float32")}

    def test_makes_the_folders_of_the_path(self, model, tmp_path):
        file = keras_convnext.save_weights(model, tmp_path / "a" / "b" / "model.safetensors")

        assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["model.safetensors"]
        assert file.is_file()


class TestRefusals:
    @pytest.mark.parametrize("format", ["timm", "transformers", "torchvision"])
    def test_isotropic_network_that_the_project_has_not(self, format, isotropic, tmp_path):
        with pytest.raises(WeightsError, match=f"{format} has no network without.*'official'"):
            keras_convnext.save_weights(isotropic(True), tmp_path / "model.pth", format=format)
        assert not list(tmp_path.iterdir())

    def test_unknown_format(self, model, tmp_path):
        expected = "`format` must be one of official, timm, .* Received: 'onnx'"
        with pytest.raises(WeightsError, match=expected):
            keras_convnext.save_weights(model, tmp_path / "model.pth", format="onnx")

    @pytest.mark.parametrize("name", ["model.h5", "model", "model.bin", "model.safetensors.gz"])
    def test_other_suffix(self, name, model, tmp_path):
        with pytest.raises(WeightsError, match=rf"as \.safetensors or \.pth.*{name}"):
            keras_convnext.save_weights(model, tmp_path / name)

    @pytest.mark.parametrize("format", ["timm", "safetensors"])
    def test_model_of_another_kind(self, format, tmp_path):
        other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")])

        with pytest.raises(
            WeightsError, match="holds no ConvNeXt of keras_convnext.*layers are .*'dense'"
        ):
            keras_convnext.save_weights(other, tmp_path / "model.safetensors", format=format)
        assert not list(tmp_path.iterdir())

    def test_pth_without_pytorch(self, model, tmp_path, without_pytorch):
        with pytest.raises(MissingPackage, match=r"PyTorch.*write model\.pth.*not installed: pip"):
            keras_convnext.save_weights(model, tmp_path / "model.pth")
        assert not list(tmp_path.iterdir())
        keras_convnext.save_weights(model, tmp_path / "model.safetensors")

    def test_folder_that_is_a_file(self, model, tmp_path):
        (tmp_path / "taken").write_text("")

        with pytest.raises(WeightsError, match="cannot be written"):
            keras_convnext.save_weights(model, tmp_path / "taken" / "model.safetensors")


class TestFailedWrite:
    """What was there before is there afterwards, and nothing else."""

    @pytest.fixture(params=SUFFIXES)
    def earlier(self, request, tmp_path):
        file = tmp_path / f"model{request.param}"
        file.write_bytes(b"earlier")
        yield file
        assert file.read_bytes() == b"earlier"
        assert list(tmp_path.iterdir()) == [file]

    def test_disk_that_is_full(self, earlier, model, monkeypatch):
        def full(*args, **kwargs):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(safetensors.numpy, "save_file", full)
        monkeypatch.setattr(torch, "save", full)

        with pytest.raises(WeightsError, match=r"model.* cannot be written: No space left"):
            keras_convnext.save_weights(model, earlier)

    def test_disk_that_fills_up(self, earlier, model):
        """The libraries' own writers meet a limit of the system: they raise errors of their own."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            with pytest.raises(WeightsError, match="cannot be written"):
                keras_convnext.save_weights(model, earlier)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    def test_interruption(self, earlier, model, monkeypatch):
        def interrupt(tensors, path, *args, **kwargs):
            with open(path, "wb") as file:
                file.write(b"half")
            raise KeyboardInterrupt

        monkeypatch.setattr(safetensors.numpy, "save_file", interrupt)
        monkeypatch.setattr(torch, "save", interrupt)

        with pytest.raises(KeyboardInterrupt):
            keras_convnext.save_weights(model, earlier)
