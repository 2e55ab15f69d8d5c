"""Files that other projects' own code wrote give the outputs of those projects' networks."""

import argparse

import h5py
import keras
import numpy as np
import pytest
import safetensors.torch
import torch
from comparison import relative_error, zeros_for_random_values
from other_projects import (
    CLASSES,
    DEPTHS,
    DIMS,
    HEADLESS,
    ISOTROPIC,
    OTHERS,
    SIZE,
    assert_same_weights,
    images,
    isotropic_network,
    keras_network,
    logits,
    official_isotropic_shapes,
    official_network,
    official_shapes,
    random_state_dict,
    randomized,
    raw_images,
    set_random_weights,
    timm_network,
    weights_of,
)

import keras_convnext


def assert_gives(model, file, expected, batch=None, tolerance=1e-4):
    keras_convnext.load_weights(model, file)
    batch = images() if batch is None else batch

    assert relative_error(model.predict(batch, verbose=0), expected) < tolerance


def state_dict(project):
    return OTHERS[project]().state_dict()


class TestPyTorchFiles:
    """`.pth`, `.bin` and safetensors with the names of PyTorch networks."""

    @pytest.mark.parametrize("project", OTHERS)
    def test_safetensors(self, project, network, tmp_path):
        file = tmp_path / "model.safetensors"
        safetensors.torch.save_file(state_dict(project), file)

        assert_gives(network, file, logits(OTHERS[project]()))

    @pytest.mark.parametrize("project", OTHERS)
    def test_pth(self, project, network, tmp_path):
        torch.save(state_dict(project), tmp_path / "model.pth")

        assert_gives(network, tmp_path / "model.pth", logits(OTHERS[project]()))

    def test_pth_as_pytorch_wrote_it_before_version_1_6(self, network, tmp_path):
        file = tmp_path / "model.pth"
        torch.save(state_dict("timm"), file, _use_new_zipfile_serialization=False)

        assert_gives(network, file, logits(OTHERS["timm"]()))

    def test_pth_of_distributed_training(self, network, tmp_path):
        tensors = {f"module.{name}": tensor for name, tensor in state_dict("timm").items()}
        torch.save({"epoch": 3, "state_dict": tensors}, tmp_path / "model.pth.tar")

        assert_gives(network, tmp_path / "model.pth.tar", logits(OTHERS["timm"]()))

    def test_pth_of_the_official_trainer(self, network, tmp_path):
        timm = timm_network()
        optimizer = torch.optim.AdamW(timm.parameters())
        timm(torch.zeros(1, 3, 32, 32)).sum().backward()
        optimizer.step()
        checkpoint = {
            "model": timm.state_dict(),
            "optimizer": optimizer.state_dict(),
            "epoch": 299,
            "scaler": {"scale": 65536.0, "growth_factor": 2.0},
            "args": argparse.Namespace(model="convnext_tiny", lr=4e-3, opt_betas=None),
            "model_ema": {name: tensor + 1 for name, tensor in timm.state_dict().items()},
        }
        torch.save(checkpoint, tmp_path / "checkpoint-299.pth")

        assert_gives(network, tmp_path / "checkpoint-299.pth", logits(timm))

    def test_official_names(self, network, tmp_path):
        official = random_state_dict(official_shapes())
        torch.save({"model": official}, tmp_path / "convnext.pth")

        assert_gives(network, tmp_path / "convnext.pth", logits(official_network(official)))

    @pytest.mark.parametrize("layer_scale", [True, False], ids=["layer scale", "no layer scale"])
    def test_official_isotropic_names(self, layer_scale, isotropic, tmp_path):
        official = random_state_dict(
            official_isotropic_shapes(**ISOTROPIC, layer_scale=layer_scale)
        )
        torch.save({"model": official}, tmp_path / "convnext_iso.pth")
        expected = logits(isotropic_network(official))

        assert_gives(isotropic(layer_scale), tmp_path / "convnext_iso.pth", expected)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
    def test_half_precision(self, dtype, suffix, network, tmp_path):
        rounded = {name: tensor.to(dtype) for name, tensor in state_dict("timm").items()}
        file = (tmp_path / "model").with_suffix(suffix)
        write = torch.save if suffix == ".pth" else safetensors.torch.save_file
        write(rounded, file)
        timm = timm_network()
        timm.load_state_dict(rounded)

        assert_gives(network, file, logits(timm))
        weights = weights_of(network).values()
        assert {weight.dtype for weight in weights} == {np.dtype("float32")}

    def test_tiny_of_timm(self, tmp_path):
        import timm

        reference = randomized(timm.create_model("convnext_tiny"))
        safetensors.torch.save_file(reference.state_dict(), tmp_path / "model.safetensors")
        model = keras_convnext.ConvNeXtTiny(
            weights=tmp_path / "model.safetensors",
            include_preprocessing=False,
            classifier_activation=None,
        )
        batch = images(224, 224)

        assert relative_error(model.predict(batch, verbose=0), logits(reference, batch)) < 1e-4


class TestTransformersDirectories:
    """What `save_pretrained` writes."""

    def test_one_file(self, network, tmp_path):
        OTHERS["transformers"]().save_pretrained(tmp_path)
        assert (tmp_path / "model.safetensors").is_file()

        assert_gives(network, tmp_path, logits(OTHERS["transformers"]()))

    @pytest.mark.parametrize("given", ["directory", "index"])
    def test_several_files(self, given, network, tmp_path):
        OTHERS["transformers"]().save_pretrained(tmp_path, max_shard_size="20KB")
        index = tmp_path / "model.safetensors.index.json"
        assert len(list(tmp_path.glob("model-0*.safetensors"))) > 2

        source = tmp_path if given == "directory" else index
        assert_gives(network, source, logits(OTHERS["transformers"]()))

    def test_pytorch_model_bin(self, network, tmp_path):
        torch.save(state_dict("transformers"), tmp_path / "pytorch_model.bin")

        assert_gives(network, tmp_path, logits(OTHERS["transformers"]()))

    def test_model_without_a_head(self, backbone, tmp_path):
        HEADLESS["transformers"]().save_pretrained(tmp_path)

        assert_gives(backbone, tmp_path, logits(HEADLESS["transformers"]()))


def test_timm_without_a_head(backbone, tmp_path):
    safetensors.torch.save_file(HEADLESS["timm"]().state_dict(), tmp_path / "model.safetensors")

    assert_gives(backbone, tmp_path, logits(HEADLESS["timm"]()))


@pytest.fixture(scope="session", params=[True, False], ids=["top", "notop"])
def of_keras(request):
    """The network of keras.applications and its outputs."""
    network = keras_network(include_top=request.param)
    return network, network.predict(raw_images(), verbose=0)


@pytest.fixture
def matching(of_keras, request):
    """Our network with as much of a top as the one of keras.applications."""
    top = of_keras[0].output_shape[-1] == CLASSES
    return request.getfixturevalue("network" if top else "backbone")


class TestKerasApplications:
    @pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".keras"])
    def test_files_that_keras_3_writes(self, suffix, of_keras, matching, tmp_path):
        file = tmp_path / f"convnext_tiny{suffix}"
        if suffix == ".weights.h5":
            of_keras[0].save_weights(file)
        else:
            of_keras[0].save(file)

        assert_gives(matching, file, of_keras[1], tolerance=1e-5)

    @pytest.mark.backend_free
    def test_its_tiny_network(self, tmp_path):
        with zeros_for_random_values():
            reference = keras.applications.ConvNeXtTiny(weights=None, input_shape=(64, 64, 3))
        set_random_weights(reference)
        batch = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype("float32")
        expected = reference.predict(batch, verbose=0)
        reference.save(tmp_path / "a.h5")
        reference.save_weights(tmp_path / "a.weights.h5")

        with zeros_for_random_values():
            model = keras_convnext.ConvNeXtTiny(input_shape=(64, 64, 3))
        for name in ("a.h5", "a.weights.h5"):
            assert_gives(model, tmp_path / name, expected, batch, tolerance=1e-5)

    @pytest.mark.backend_free
    @pytest.mark.parametrize("layer_scale", ["Variable:0", "{layer}/Variable:0"])
    @pytest.mark.parametrize("root", ["", "model_weights"], ids=["weights", "whole model"])
    def test_files_that_keras_2_wrote(self, root, layer_scale, of_keras, matching, tmp_path):
        file = tmp_path / "convnext_tiny.h5"
        write_as_keras_2(of_keras[0], file, root, layer_scale)

        assert_gives(matching, file, of_keras[1], tolerance=1e-5)

    @pytest.mark.backend_free
    def test_names_too_many_for_one_attribute(self, network, tmp_path):
        model = keras_network()
        write_as_keras_2(model, tmp_path / "convnext_tiny.h5", names_in_one_attribute=3)
        with h5py.File(tmp_path / "convnext_tiny.h5") as file:
            assert {"layer_names0", "layer_names1"} <= file.attrs.keys()
        expected = model.predict(raw_images(), verbose=0)

        assert_gives(network, tmp_path / "convnext_tiny.h5", expected, tolerance=1e-5)


def write_as_keras_2(model, path, root="", layer_scale="Variable:0", names_in_one_attribute=None):
    """Writes what `model.save_weights("x.h5")` and, under a group, `model.save("x.h5")` wrote."""

    def names_of(layer):
        inner = layer.layers if isinstance(layer, keras.Sequential) else [layer]
        for part in inner:
            for weight in part.weights:
                name = f"{part.name}/{weight.name}:0"
                if "layer_scale" in part.name:
                    name = layer_scale.format(layer=part.name)
                yield name, keras.ops.convert_to_numpy(weight)

    def write_names(group, attribute, names):
        names = np.array([name.encode() for name in names])
        if names_in_one_attribute is None or len(names) <= names_in_one_attribute:
            group.attrs[attribute] = names
            return
        for i in range(0, len(names), names_in_one_attribute):
            part = f"{attribute}{i // names_in_one_attribute}"
            group.attrs[part] = names[i : i + names_in_one_attribute]

    with h5py.File(path, "w") as file:
        group = file.create_group(root) if root else file
        if root:
            file.attrs["model_config"] = b"{}"
            file.create_group("optimizer_weights").attrs["weight_names"] = np.array([b"iter:0"])
        group.attrs["backend"] = b"tensorflow"
        group.attrs["keras_version"] = b"2.9.0"
        write_names(group, "layer_names", [layer.name for layer in model.layers])
        for layer in model.layers:
            of_layer = group.create_group(layer.name)
            weights = dict(names_of(layer))
            write_names(of_layer, "weight_names", weights)
            for name, value in weights.items():
                of_layer[name] = value


class TestOwnFiles:
    @pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".h5", ".safetensors"])
    def test_come_back_bit_for_bit(self, suffix, random_network, tmp_path):
        file = tmp_path / f"model{suffix}"
        expected = weights_of(random_network)
        if suffix == ".safetensors":
            keras_convnext.save_weights(random_network, file)
        elif suffix == ".weights.h5":
            random_network.save_weights(file)
        else:
            random_network.save(file)
        for variable in random_network.weights:
            variable.assign(np.full(variable.shape, np.nan, "float32"))

        keras_convnext.load_weights(random_network, file)

        assert_same_weights(weights_of(random_network), expected)

    @pytest.mark.parametrize("suffix", [".keras", ".h5"])
    def test_of_a_run_hold_an_optimizer_and_random_states_too(
        self, suffix, build, network, tmp_path
    ):
        trained = build(drop_path_rate=0.3)
        set_random_weights(trained)
        trained.compile(keras_convnext.optimizers.AdamW(1e-3), "mse")
        trained.optimizer.build(trained.trainable_variables)
        trained.save(tmp_path / f"last{suffix}")

        keras_convnext.load_weights(network, tmp_path / f"last{suffix}")

        assert_same_weights(weights_of(network), weights_of(trained))

    @pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".safetensors"])
    def test_in_bfloat16(self, suffix, build, network, tmp_path):
        keras.config.set_dtype_policy("bfloat16")
        try:
            rounded = build()
        finally:
            keras.config.set_dtype_policy("float32")
        set_random_weights(rounded)
        file = tmp_path / f"model{suffix}"
        if suffix == ".safetensors":
            keras_convnext.save_weights(rounded, file)
        else:
            rounded.save(file) if suffix == ".keras" else rounded.save_weights(file)

        keras_convnext.load_weights(network, file)

        expected = {path: value.astype("float32") for path, value in weights_of(rounded).items()}
        assert_same_weights(weights_of(network), expected)

    @pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
    def test_of_a_model_without_layer_scale(self, suffix, isotropic, tmp_path):
        model = isotropic(layer_scale=False)
        set_random_weights(model)
        expected = weights_of(model)
        file = tmp_path / f"model{suffix}"
        model.save(file) if suffix == ".keras" else model.save_weights(file)

        model = isotropic(layer_scale=False)
        keras_convnext.load_weights(model, file)

        assert_same_weights(weights_of(model), expected)


def test_the_rule_for_official_names_is_that_of_the_code():
    """timm takes the names apart itself, so that its network would not load other ones."""
    import timm
    from timm.models.convnext import checkpoint_filter_fn

    with torch.device("meta"):
        network = timm.create_model("convnext_small")
        official = {
            name: torch.empty(shape)
            for name, shape in official_shapes((3, 3, 27, 3), (96, 192, 384, 768), 1000).items()
        }
    translated = checkpoint_filter_fn(official, network)

    shapes = {name: tensor.shape for name, tensor in translated.items()}
    assert shapes == {name: tensor.shape for name, tensor in network.state_dict().items()}


def test_the_networks_compared_are_of_one_size():
    shapes = official_shapes(DEPTHS, DIMS, CLASSES)
    expected = sorted(np.prod(shape) for shape in shapes.values())

    for network in (make() for make in OTHERS.values()):
        assert sorted(tensor.numel() for tensor in network.state_dict().values()) == expected
    assert images().shape == (2, *SIZE, 3)
