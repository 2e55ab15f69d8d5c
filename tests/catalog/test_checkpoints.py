"""The table of published checkpoints against timm's, and against the networks' own shapes."""

import importlib

import keras
import numpy as np
import pytest
import torch
from other_projects import official_isotropic_shapes, official_shapes

import keras_convnext
from keras_convnext.catalog.architectures import VARIANTS
from keras_convnext.catalog.checkpoints import (
    CHECKPOINTS,
    full_name,
    get_checkpoint,
    list_weights,
    suggestion,
)
from keras_convnext.errors import WeightsError
from keras_convnext.weights import formats

pytestmark = pytest.mark.backend_free

ON_THE_HUB = [name for name, row in CHECKPOINTS.items() if row.hub is not None]
ONLY_OFFICIAL = {
    "convnext_base.fb_in1k_384",
    "convnext_large.fb_in1k_384",
    "convnext_isotropic_small.fb_in1k",
    "convnext_isotropic_base.fb_in1k",
    "convnext_isotropic_large.fb_in1k",
    "convnext_tiny.fb_in1k_no_ema",
    "convnext_small.fb_in1k_no_ema",
    "convnext_base.fb_in1k_no_ema",
}
# Blocks and channels, as the official code's constructors have them; isotropic: layer scale.
SIZES = {
    "convnext_tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "convnext_small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "convnext_base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "convnext_large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
    "convnext_xlarge": ((3, 3, 27, 3), (256, 512, 1024, 2048)),
}
ISOTROPIC_SIZES = {
    "convnext_isotropic_small": (18, 384, 16, False),
    "convnext_isotropic_base": (18, 768, 16, False),
    "convnext_isotropic_large": (36, 1024, 16, True),
}
TENSORS = {
    "convnext_tiny": 182,
    "convnext_small": 344,
    "convnext_base": 344,
    "convnext_large": 344,
    "convnext_xlarge": 344,
    "convnext_isotropic_small": 150,
    "convnext_isotropic_base": 150,
    "convnext_isotropic_large": 330,
}
NETWORKS = sorted({(row.model, row.classes) for row in CHECKPOINTS.values()})


@pytest.fixture(scope="module")
def shapes_here():
    """Returns a function that gives the names and shapes of a network in another's naming."""
    networks = {}
    for model, classes in NETWORKS:
        with keras.StatelessScope(initialize_variables=False):  # shapes without values
            network = keras_convnext.create_model(model, classes=classes)
            networks[model, classes] = {v.path: tuple(v.shape) for v in network.weights}
        keras.utils.clear_session(free_memory=False)  # or the next scope would make up for it

    def shapes(model, classes, format):
        return {
            format.name_of(path): format.from_keras(
                path, np.broadcast_to(np.float32(0), shape)
            ).shape
            for path, shape in networks[model, classes].items()
        }

    return shapes


class TestNetworks:
    def test_of_every_row_is_in_the_package(self):
        assert {row.model for row in CHECKPOINTS.values()} == set(keras_convnext.list_models())
        assert set(VARIANTS) == set(TENSORS)

    @pytest.mark.parametrize(("model", "classes"), NETWORKS)
    def test_has_the_official_names_and_shapes(self, model, classes, shapes_here):
        if model in SIZES:
            expected = official_shapes(*SIZES[model], classes)
            actual = shapes_here(model, classes, formats.OFFICIAL)
        else:
            expected = official_isotropic_shapes(*ISOTROPIC_SIZES[model], classes)
            actual = shapes_here(model, classes, formats.OFFICIAL_ISOTROPIC)

        assert len(expected) == TENSORS[model]
        assert actual == expected

    @pytest.mark.parametrize(("model", "classes"), [n for n in NETWORKS if n[0] in SIZES])
    def test_has_the_names_and_shapes_of_timm(self, model, classes, shapes_here):
        import timm

        with torch.device("meta"):
            network = timm.create_model(model, num_classes=classes)
        expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}

        assert shapes_here(model, classes, formats.TIMM) == expected

    @pytest.mark.parametrize("model", ["convnext_tiny", "convnext_base"])
    def test_has_the_names_and_shapes_of_transformers(self, model, shapes_here):
        import transformers

        depths, dims = SIZES[model]
        config = transformers.ConvNextConfig(
            depths=list(depths), hidden_sizes=list(dims), num_labels=1000
        )
        with torch.device("meta"):
            network = transformers.ConvNextForImageClassification(config)
        expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}

        assert shapes_here(model, 1000, formats.TRANSFORMERS) == expected

    @pytest.mark.parametrize("model", list(SIZES)[:4])
    def test_has_the_names_and_shapes_of_torchvision(self, model, shapes_here):
        import torchvision.models

        with torch.device("meta"):
            network = getattr(torchvision.models, model)()
        expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}

        assert shapes_here(model, 1000, formats.TORCHVISION) == expected


class TestRows:
    def test_are_these_on_the_hub_and_these_not(self):
        assert set(CHECKPOINTS) == {*ON_THE_HUB, *ONLY_OFFICIAL}
        assert len(ON_THE_HUB) == 19
        assert not ONLY_OFFICIAL & set(ON_THE_HUB)

    def test_are_all_that_timm_has_of_the_authors(self):
        import timm

        names = timm.list_pretrained("convnext_*.fb_*")
        assert set(ON_THE_HUB) == set(names)

    @pytest.mark.parametrize("name", ON_THE_HUB)
    def test_equal_those_of_timm(self, name):
        import timm

        row, theirs = CHECKPOINTS[name], timm.get_pretrained_cfg(name)

        assert (row.model, row.tag) == (theirs.architecture, theirs.tag)
        assert row.hub == theirs.hf_hub_id
        assert row.url == theirs.url
        assert row.classes == theirs.num_classes
        assert (3, row.image_size, row.image_size) == theirs.input_size
        assert row.crop_fraction == theirs.crop_pct
        assert row.warp == (theirs.crop_mode == "squash")
        assert theirs.crop_mode in ("squash", "center")
        preprocessing = row.preprocessing
        assert (preprocessing.mean, preprocessing.std, preprocessing.interpolation) == (
            theirs.mean,
            theirs.std,
            theirs.interpolation,
        )

    @pytest.mark.parametrize("row", CHECKPOINTS.values(), ids=str)
    def test_agree_with_their_names(self, row):
        """Sizes, classes and what was trained last stand in the tag and in the official file."""
        assert CHECKPOINTS[row.name] is row
        assert row.name == f"{row.model}.{row.tag}"
        letters = row.file.removesuffix(".pth").removesuffix("_ema")
        short = row.model.removeprefix("convnext_").replace("isotropic", "iso")
        trained = {
            "fb_in1k": "1k_224",
            "fb_in1k_no_ema": "1k_224",
            "fb_in1k_384": "1k_384",
            "fb_in22k": "22k_224",
            "fb_in22k_ft_in1k": "22k_1k_224",
            "fb_in22k_ft_in1k_384": "22k_1k_384",
        }
        assert letters == f"convnext_{short}_{trained[row.tag]}"
        assert row.image_size == int(letters[-3:])
        assert row.classes == (21841 if row.tag == "fb_in22k" else 1000)
        assert (row.tag == "fb_in1k") <= row.file.endswith("_ema.pth")
        assert (row.tag == "fb_in1k_no_ema") <= (not row.file.endswith("_ema.pth"))
        assert row.licence == "MIT"

    def test_have_files_of_their_own(self):
        assert len({row.url for row in CHECKPOINTS.values()}) == len(CHECKPOINTS)

    def test_have_accuracies_that_grow_with_size_and_data(self):
        """Wrongly copied numbers would break the order that the paper's tables show."""

        def top_1(tag):
            rows = (CHECKPOINTS.get(f"{model}.{tag}") for model in SIZES)
            return [row.top_1 for row in rows if row is not None]

        for tag in ("fb_in1k", "fb_in22k_ft_in1k", "fb_in22k_ft_in1k_384"):
            assert top_1(tag) == sorted(top_1(tag))
            assert len(set(top_1(tag))) == len(top_1(tag)) >= 4
        for smaller, larger in (
            ("fb_in1k", "fb_in22k_ft_in1k"),
            ("fb_in22k_ft_in1k", "fb_in22k_ft_in1k_384"),
        ):
            pairs = zip(top_1(smaller), top_1(larger), strict=False)
            assert all(a < b for a, b in pairs)

    @pytest.mark.parametrize("row", CHECKPOINTS.values(), ids=str)
    def test_have_accuracies_where_they_may(self, row):
        if row.classes != 1000 or row.tag.endswith("no_ema"):
            assert (row.top_1, row.top_1_timm) == (None, None)
        else:
            assert 75 < row.top_1 < 90
            assert (row.top_1_timm is None) == (row.hub is None)
        if row.top_1_timm is not None:
            assert abs(row.top_1_timm - row.top_1) < 0.06  # another decoder, other sizes


class TestNames:
    def test_list_weights(self):
        assert list_weights() == list(CHECKPOINTS)
        assert list_weights("convnext_xlarge") == [
            "convnext_xlarge.fb_in22k",
            "convnext_xlarge.fb_in22k_ft_in1k",
            "convnext_xlarge.fb_in22k_ft_in1k_384",
        ]
        assert list_weights("convnext_huge") == []
        assert keras_convnext.list_weights is list_weights

    def test_imagenet_is_what_keras_applications_has(self):
        """Its documentation: tiny and small are of ImageNet-1K, the larger ones of 22K, then 1K."""
        module = importlib.import_module("keras.src.applications.convnext")
        text = " ".join(module.BASE_DOCSTRING.split())
        assert "The `base`, `large`, and `xlarge` models were first pre-trained on the" in text
        assert "ImageNet-21k dataset and then fine-tuned on the ImageNet-1k dataset." in text

        for model in VARIANTS:
            first_22k = model in ("convnext_base", "convnext_large", "convnext_xlarge")
            tag = "fb_in22k_ft_in1k" if first_22k else "fb_in1k"
            assert full_name("imagenet", model) == f"{model}.{tag}"

    @pytest.mark.parametrize("name", CHECKPOINTS)
    def test_full_name_of_a_tag(self, name):
        model, _, tag = name.partition(".")

        assert full_name(tag, model) == name
        assert full_name(name, model) == name
        assert get_checkpoint(name).name == name

    @pytest.mark.parametrize("weights", ["fb_in1k_384", "a.pth", "fb_in1k.", "", "IMAGENET"])
    def test_full_name_leaves_what_is_no_tag_of_the_network(self, weights):
        assert full_name(weights, "convnext_tiny") == weights

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("fb_in1k_384", "With the network's name before it: convnext_base.fb_in1k_384, conv"),
            ("imagenet", "With the network's name before it: convnext_tiny.fb_in1k, "),
            ("convnext_xlarge.fb_in1k", "There are: convnext_xlarge.fb_in22k, convnext_xlarge.fb"),
            ("convnext_xlarge", "There are: convnext_xlarge.fb_in22k, "),
            ("convnet_base.fb_in22k", "Did you mean 'convnext_base.fb_in22k'?"),
            ("fb_in22k_384", "Did you mean 'fb_in"),
            ("resnet50", "`keras-convnext weights list` shows all names."),
        ],
    )
    def test_unknown_names_lead_to_known_ones(self, name, expected):
        with pytest.raises(WeightsError) as caught:
            get_checkpoint(name)

        text = str(caught.value)
        assert text.startswith(f"There is no published checkpoint called {name!r}. {expected}")
        assert text.endswith(suggestion(name))
