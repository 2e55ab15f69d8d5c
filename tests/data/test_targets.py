"""Targets of other forms than one value an image, through the pipeline as it is."""

import numpy as np
import pytest
import tensorflow as tf

from keras_convnext.data.pipeline import evaluation_dataset, training_dataset
from keras_convnext.data.sources.split import ArraySplit
from keras_convnext.data.targets import Targets
from keras_convnext.recipe import Augment, Data

pytestmark = pytest.mark.backend_free

SIZE, OBJECTS = 12, 4


class Maps(Targets):
    """A label map of the size of the image, which a flip of the image flips too."""

    def training_example(self, split, index, data, augment, preprocessing, seed):
        image, _ = split.example(index)
        both = tf.concat([image, tf.cast(image[..., :1] > 99, tf.uint8)], axis=-1)
        both = tf.image.stateless_random_flip_left_right(both, seed)
        return tf.cast(both[..., :3], tf.float32), tf.ensure_shape(both[..., 3], (SIZE, SIZE))


class Boxes(Targets):
    """As many boxes as the class's number says, in a dict that a model computes its loss from."""

    def training_example(self, split, index, data, augment, preprocessing, seed):
        image, count = split.example(index)
        inputs = {"image": tf.cast(image, tf.float32), "boxes": tf.ones((count, 4))}
        return ({**inputs, "classes": tf.zeros((count,), tf.int32)},)

    def batch(self, dataset, split, batch_size, drop_remainder):
        shapes = {"image": (SIZE, SIZE, 3), "boxes": (OBJECTS, 4), "classes": (OBJECTS,)}
        nothing = {"image": 0.0, "boxes": 0.0, "classes": -1}
        return dataset.padded_batch(batch_size, (shapes,), (nothing,), drop_remainder)


@pytest.fixture
def split():
    images = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), "uint8")
    return ArraySplit(images, np.arange(8, dtype="int32") % 3, ("a", "b", "c"))


def batches(split, targets, start=0):
    data = Data(source="digits", image_size=SIZE, batch_size=4)
    dataset = training_dataset(split, data, Augment(policy="none"), 2, 0, start, targets=targets)
    return dataset, list(dataset.as_numpy_iterator())


def test_maps_follow_their_images_and_repeat_from_any_step(split):
    dataset, found = batches(split, Maps())
    image_spec, map_spec = dataset.element_spec
    assert image_spec.shape == (4, SIZE, SIZE, 3) and map_spec.shape == (4, SIZE, SIZE)
    for images, maps in found:
        np.testing.assert_array_equal(maps, images[..., 0] > 99)
    for ours, theirs in zip(batches(split, Maps(), start=2)[1], found[2:], strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_boxes_of_any_number_are_padded_to_a_fixed_shape(split):
    dataset, found = batches(split, Boxes())
    (spec,) = dataset.element_spec
    assert spec["boxes"].shape == (4, OBJECTS, 4)
    counts = np.concatenate([(batch["classes"] >= 0).sum(axis=1) for (batch,) in found])
    assert sorted(counts) == sorted([*split.labels, *split.labels])
    for (batch,) in found:
        np.testing.assert_array_equal(batch["boxes"].any(axis=-1), batch["classes"] >= 0)


def test_targets_are_values_where_a_task_says_nothing_else(split):
    found = list(evaluation_dataset(split, SIZE, 1.0, targets=Targets()).as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate([values for _, values in found]), split.labels)
