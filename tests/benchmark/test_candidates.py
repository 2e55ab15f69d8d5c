import pytest

from keras_convnext.benchmark.candidates import Candidate, candidates, extra_candidates
from keras_convnext.errors import UserError

pytestmark = pytest.mark.backend_free


def rows(found):
    return [(one.project, one.network, one.backend, one.precision) for one in found]


def test_a_network_meets_its_peers_on_every_backend_in_every_precision():
    found = candidates("convnext_xlarge", ["jax", "torch"], ["bfloat16"], None)
    assert rows(found) == [
        ("keras_convnext", "convnext_xlarge", "jax", "bfloat16"),
        ("keras_convnext", "convnext_xlarge", "torch", "bfloat16"),
        ("keras.applications", "ConvNeXtXLarge", "jax", "bfloat16"),
        ("keras.applications", "ConvNeXtXLarge", "torch", "bfloat16"),
        ("timm", "convnext_xlarge", "torch", "bfloat16"),
    ]


def test_peers_are_chosen_by_name():
    found = candidates("convnext_base", ["jax"], ["float32"], ["timm compiled", "transformers"])
    assert rows(found)[1:] == [
        ("timm compiled", "convnext_base", "torch", "float32"),
        ("transformers", "convnext_base", "torch", "float32"),
    ]


def test_a_network_that_no_peer_has_stands_alone():
    found = candidates("convnext_isotropic_small", ["tensorflow"], ["float32"], None)
    assert [one.project for one in found] == ["keras_convnext"]


def test_other_networks_are_named_by_project():
    found = extra_candidates(["ResNet50", "timm:regnety_016"], ["jax", "torch"], ["float32"])
    assert rows(found) == [
        ("keras.applications", "ResNet50", "jax", "float32"),
        ("keras.applications", "ResNet50", "torch", "float32"),
        ("timm", "regnety_016", "torch", "float32"),
    ]


def test_other_networks_may_have_images_of_another_size():
    found = extra_candidates(
        ["EfficientNetB4@380", "timm:regnety_016@256", "ResNet50"], ["jax"], ["float32"]
    )
    assert [one.image_size for one in found] == [380, 256, None]
    assert [one.network for one in found] == ["EfficientNetB4", "regnety_016", "ResNet50"]
    assert found[0].label == "keras.applications EfficientNetB4 at 380 on jax"


@pytest.mark.parametrize("name", ["ResNet50@", "ResNet50@0", "timm:resnet50@large", "ResNet50@-3"])
def test_a_size_that_is_not_a_positive_number_is_refused(name):
    with pytest.raises(UserError, match=f"height and width in pixels.*Received: '{name}'"):
        extra_candidates([name], ["jax"], ["float32"])


def test_the_label_of_a_candidate_has_project_network_and_backend():
    assert Candidate("timm", "regnety_016", "torch", "float32").label == "timm regnety_016 on torch"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("convnext_tny", ["jax"], ["float32"], None), "Did you mean 'convnext_tiny'"),
        (("convnext_tiny", ["mxnet"], ["float32"], None), "--backend must be one of 'tensorflow'"),
        (
            ("convnext_tiny", ["jax"], ["float16"], None),
            "--precision must be .*Received: 'float16'",
        ),
        (("convnext_tiny", ["jax"], ["float32"], ["mmcv"]), "--peer must be one of"),
        (("convnext_isotropic_base", ["jax"], ["float32"], ["timm"]), "timm has no convnext_iso"),
    ],
)
def test_an_impossible_comparison_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        candidates(*arguments)


def test_other_projects_are_refused():
    with pytest.raises(UserError, match="Received: 'torchvision:resnet50'"):
        extra_candidates(["torchvision:resnet50"], ["jax"], ["float32"])


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("keras_convnext.benchmark.candidates.find_spec", lambda name: None)
    with pytest.raises(UserError, match="The backend 'jax' is not installed"):
        candidates("convnext_tiny", ["jax"], ["float32"], None)
    with pytest.raises(UserError, match="timm needs torch, which is not installed"):
        extra_candidates(["timm:resnet50"], [], ["float32"])
