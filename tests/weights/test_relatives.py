"""Files of other networks are refused by the name of what they hold."""

import functools

import pytest
import timm
import torch
from other_projects import DEPTHS, DIMS, official_shapes, random_state_dict, timm_network

import keras_convnext
from keras_convnext.benchmark.torchvision_operations import make_torchvision_importable
from keras_convnext.errors import WeightsError
from keras_convnext.weights.weight_file import WeightFile

pytestmark = pytest.mark.backend_free
make_torchvision_importable()


def stand_ins(make):
    """Returns tensors with the names and shapes of a network's weights that take no memory."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in make().state_dict().items()}
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


def of_timm(name, **arguments):
    return functools.partial(timm.create_model, name, **arguments)


def of_transformers(name, **config):
    import transformers

    network = name.split("For")[0].removesuffix("Model").removesuffix("Backbone")
    config_class = getattr(transformers, f"{network}Config")
    return lambda: getattr(transformers, name)(config_class(**config))


TOY = {"hidden_sizes": list(DIMS), "depths": list(DEPTHS)}
RELATIVES = {
    "V2 of timm": (lambda: timm_network(use_grn=True, ls_init_value=None), "a ConvNeXt V2"),
    "V2 atto of timm": (of_timm("convnextv2_atto"), "a ConvNeXt V2"),
    "V2 of transformers": (
        of_transformers("ConvNextV2ForImageClassification", **TOY),
        "a ConvNeXt V2",
    ),
    "V2 without a head": (of_transformers("ConvNextV2Model", **TOY), "a ConvNeXt V2"),
    "overlapping stem": (of_timm("convnext_nano_ols"), "overlapping convolutions in the stem"),
    "tiered stem": (of_timm("convnext_pico_ols"), "overlapping convolutions in the stem"),
    "norm first": (of_timm("convnext_tiny_hnf"), "the last norm before the pooling"),
    "norms without biases": (of_timm("convnext_zepto_rms"), "whose norms have no bias"),
    "both": (of_timm("convnext_zepto_rms_ols"), "norms have no bias|overlapping"),
    "hidden layer": (of_timm("convnext_large_mlp"), "a hidden layer in the classifier"),
    "another epsilon": (of_timm("convnext_xxlarge"), "timm's convnext_xxlarge.* epsilon"),
    "another activation": (of_timm("test_convnext"), "timm's test_convnext, .* epsilon"),
    "its second": (of_timm("test_convnext2"), "timm's test_convnext2, .* epsilon"),
    "backbone of transformers": (
        of_transformers("ConvNextBackbone", out_features=["stage1", "stage4"], **TOY),
        "the backbone of a detector",
    ),
}
OTHERS = {
    "DINOv3 of transformers": (of_transformers("DINOv3ConvNextModel", **TOY), "ConvNeXt of DINOv3"),
    "Swin of timm": (of_timm("swin_tiny_patch4_window7_224"), "a Swin Transformer"),
    "Swin V2": (of_timm("swinv2_tiny_window8_256"), "a Swin Transformer"),
    "ViT of timm": (of_timm("vit_tiny_patch16_224"), "a Vision Transformer"),
    "ViT of transformers": (
        of_transformers("ViTModel", hidden_size=8, num_attention_heads=2, intermediate_size=8),
        "a Vision Transformer",
    ),
    "ResNet of timm": (of_timm("resnet18"), "a ResNet"),
    "ResNet of transformers": (of_transformers("ResNetModel"), "a ResNet"),
    "EfficientNet of timm": (of_timm("efficientnet_b0"), "an EfficientNet"),
}


@pytest.mark.parametrize("relative", RELATIVES)
def test_relative_is_named(relative, tmp_path):
    make, what = RELATIVES[relative]
    tensors = {f"model.{name}": tensor for name, tensor in stand_ins(make).items()}
    torch.save({"model": tensors}, tmp_path / "a.pth")

    with pytest.raises(WeightsError, match=rf"a\.pth holds .*{what}.*has no such network"):
        WeightFile(tmp_path / "a.pth")


@pytest.mark.parametrize("other", OTHERS)
def test_other_network_is_named(other, tmp_path):
    make, what = OTHERS[other]
    torch.save(stand_ins(make), tmp_path / "a.pth")

    with pytest.raises(WeightsError, match=rf"no ConvNeXt of a known format, but .*{what}"):
        WeightFile(tmp_path / "a.pth")


def test_resnet_of_torchvision_is_named(tmp_path):
    from torchvision.models import resnet18

    torch.save(stand_ins(resnet18), tmp_path / "a.pth")

    with pytest.raises(WeightsError, match="but a ResNet"):
        WeightFile(tmp_path / "a.pth")


def test_resnet_of_keras_applications_is_named(tmp_path):
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = ["conv2_block1_1_conv"]
        group = file.create_group("conv2_block1_1_conv")
        group.attrs["weight_names"] = ["conv2_block1_1_conv/kernel:0"]
        group["conv2_block1_1_conv/kernel:0"] = [1.0]

    with pytest.raises(WeightsError, match="but a ResNet"):
        WeightFile(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"norms.3.weight": (32,), "norms.3.bias": (32,)}, "the ConvNeXt of DINOv3"),
        ({"norm0.weight": (8,), "norm0.bias": (8,)}, "the backbone of a detector"),
        ({"stages.0.0.grn.gamma": (1, 1, 1, 32)}, "a ConvNeXt V2"),
    ],
    ids=str,
)
def test_relative_with_the_official_names(changes, what, tmp_path):
    torch.save(random_state_dict(official_shapes() | changes), tmp_path / "a.pth")

    with pytest.raises(WeightsError, match=what):
        WeightFile(tmp_path / "a.pth")


def test_image_tower_of_clip(tmp_path):
    """It is a ConvNeXt, but takes images normalised otherwise, and ends in a projection."""
    tensors = {
        f"visual.trunk.{name}": t for name, t in timm_network(classes=0).state_dict().items()
    }
    tensors |= {"visual.head.proj.weight": torch.ones(8, 32), "logit_scale": torch.ones(())}
    torch.save(tensors, tmp_path / "a.bin")

    with pytest.raises(WeightsError, match="the image tower of a CLIP model"):
        WeightFile(tmp_path / "a.bin")


@pytest.mark.parametrize("entry", ["model_from_weights", "convert_weights", "load_weights"])
def test_every_way_in_names_it(entry, random_network, tmp_path):
    torch.save(timm_network(use_grn=True).state_dict(), tmp_path / "a.pth")
    call = {
        "model_from_weights": keras_convnext.model_from_weights,
        "convert_weights": lambda file: keras_convnext.convert_weights(file, tmp_path / "b.pth"),
        "load_weights": lambda file: keras_convnext.load_weights(random_network, file),
    }[entry]

    with pytest.raises(WeightsError, match="a ConvNeXt V2"):
        call(tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["convnext_atto", "convnext_femto", "convnext_nano"])
def test_networks_that_differ_in_layout_only_are_taken(name, tmp_path):
    """Their dense layers are 1x1 convolutions."""
    torch.save(stand_ins(of_timm(name)), tmp_path / "a.pth")

    stored = WeightFile(tmp_path / "a.pth")

    assert (stored.unexpected, stored.missing, stored.left_out) == ({}, [], [])


def test_network_of_the_size_of_a_test_network_with_other_classes_is_taken(tmp_path):
    network = timm.create_model("test_convnext2", num_classes=7)
    torch.save(network.state_dict(), tmp_path / "a.pth")

    assert WeightFile(tmp_path / "a.pth").classes == 7


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
def test_quantized_file_of_ours_is_named(build, tmp_path):
    model = build(depths=(1,), dims=(4,))
    model.quantize("int8")
    model.save(tmp_path / "a.keras")

    with pytest.raises(WeightsError, match=r"a quantized model, which keras\.saving\.load_model"):
        WeightFile(tmp_path / "a.keras")
