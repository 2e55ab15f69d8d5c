import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from keras_convnext.data.sources.digits import digits
from keras_convnext.data.sources.load import load_splits
from keras_convnext.data.sources.split import ArraySplit
from keras_convnext.errors import MissingPackage
from keras_convnext.recipe import Data

pytestmark = pytest.mark.backend_free


@pytest.fixture(scope="module")
def both():
    return digits()


def rows(split):
    return [image.tobytes() for image in split.images]


def test_digits_are_split_in_four_fifths_and_one(both):
    train, test = both
    assert (len(train.labels), len(test.labels)) == (1437, 360)
    assert train.images.shape == (1437, 8, 8, 3) and train.images.dtype == np.uint8
    assert train.labels.dtype == np.int32
    assert train.class_names == test.class_names == tuple("0123456789")


def test_digits_are_split_with_equal_class_shares(both):
    for counts in (np.bincount(split.labels, minlength=10) for split in both):
        shares = counts / counts.sum()
        everything = np.bincount(load_digits().target) / 1797
        np.testing.assert_allclose(shares, everything, atol=0.5 / counts.sum() + 1e-3)


def test_no_digit_is_in_both_parts_or_in_none(both):
    images = load_digits().data
    original = sorted(np.round(images * 255 / 16).astype("uint8").tobytes() for images in images)
    found = sorted(image[..., 0].tobytes() for split in both for image in split.images)
    assert found == original


def test_digits_are_grey_and_use_the_whole_range(both):
    images = both[0].images
    assert (images.min(), images.max()) == (0, 255)
    np.testing.assert_array_equal(images[..., 0], images[..., 2])


def test_the_split_is_fixed_by_its_seed(both):
    assert rows(digits(seed=0)[1]) == rows(both[1])
    assert rows(digits(seed=1)[1]) != rows(both[1])


def test_a_recipe_sets_the_share_held_out():
    train, test = load_splits(Data(source="digits", test_fraction=0.5, split_seed=3))
    assert (len(train.labels), len(test.labels)) == (898, 899)
    assert rows(test) == rows(digits(0.5, 3)[1])


def test_an_image_can_be_had_by_number_inside_a_graph(both):
    split = both[1]
    image, label = tf.function(split.example)(tf.constant(5, tf.int64))
    np.testing.assert_array_equal(image, split.images[5])
    assert image.dtype == tf.uint8
    assert label == split.labels[5] and label.dtype == tf.int32
    assert split.name_of(5) == "image 5"
    assert split.size == 360


def test_a_part_of_an_image_can_be_had(both):
    split = both[1]
    part, label = split.example(
        tf.constant(5, tf.int64), lambda height, width: tf.stack([height - 7, 2, 3, width - 4])
    )
    np.testing.assert_array_equal(part, split.images[5][1:4, 2:6])
    assert label == split.labels[5]


def test_scikit_learn_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(MissingPackage, match=r"scikit-learn.*pip install 'keras-convnext\[train\]"):
        digits()


def test_an_array_split_keeps_what_it_is_given():
    split = ArraySplit(np.zeros((2, 4, 4, 3), "uint8"), np.array([0, 1], "int32"), ("a", "b"))
    image, label = split.example(tf.constant(1))
    assert image.shape == (4, 4, 3) and label == 1
