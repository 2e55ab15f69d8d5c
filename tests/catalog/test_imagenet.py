"""The classes of ImageNet, against timm's lists and the names that everyone knows."""

from importlib import resources

import pytest

from keras_convnext import imagenet

pytestmark = pytest.mark.backend_free


def of_timm(name):
    return (resources.files("timm") / "data/_info" / name).read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("classes", "file"), [(1000, "imagenet_synsets.txt"), (21841, "imagenet22k_synsets.txt")]
)
def test_synsets_stand_in_the_order_of_the_published_classifiers(classes, file):
    assert list(imagenet.synsets(classes)) == of_timm(file)
    assert list(imagenet.synsets(classes)) == sorted(imagenet.synsets(classes))
    assert len(imagenet.synsets(classes)) == classes


@pytest.mark.parametrize("classes", [1000, 21841])
def test_every_class_has_a_name_of_its_own_among_its_words(classes):
    words = dict(line.split("\t") for line in of_timm("imagenet_synset_to_lemma.txt"))
    names = imagenet.class_names(classes)
    assert len({name.lower() for name in names}) == classes
    for synset, name in zip(imagenet.synsets(classes), names, strict=True):
        assert name.removesuffix(f" ({synset})") in (words[synset].split(", ")[0], words[synset])


def test_well_known_places():
    names = imagenet.class_names()
    assert (names[0], names[207], names[281], names[850]) == (
        "tench",
        "golden retriever",
        "tabby",
        "teddy",
    )
    assert [name for name in names if name.startswith("crane")] == [
        "crane (n02012849)",
        "crane (n03126707)",
    ]


def test_only_the_teddy_bear_is_missing_from_the_greater_set():
    missing = set(imagenet.synsets(1000)) - set(imagenet.synsets(21841))
    assert missing == {"n04399382"}


def test_other_numbers_of_classes_are_refused():
    with pytest.raises(
        ValueError, match="1000 classes and ImageNet-22K 21841. Received: classes=7"
    ):
        imagenet.class_names(7)
