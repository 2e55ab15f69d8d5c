"""Random erasing against timm's, given the same draws, and its distributions against timm's own."""

import math

import numpy as np
import pytest
import tensorflow as tf
import timm.data.random_erasing
import torch
from scipy import stats

from keras_convnext import imagenet
from keras_convnext.data.transforms.random_erasing import draw_box, random_erasing

pytestmark = pytest.mark.backend_free

HEIGHT, WIDTH = 40, 56
DRAWS = 10_000
MEAN, STD = 255 * np.array(imagenet.MEAN), 255 * np.array(imagenet.STD)


def box_of(is_erased):
    """Returns top, left, height and width of the one rectangle that is true."""
    rows, columns = is_erased.any(axis=1).nonzero()[0], is_erased.any(axis=0).nonzero()[0]
    assert is_erased.sum() == len(rows) * len(columns)
    assert is_erased[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    return rows[0], columns[0], len(rows), len(columns)


@pytest.fixture(scope="module")
def boxes():
    """The boxes of as many seeds, and whether each fits."""
    dataset = tf.data.Dataset.range(DRAWS).map(
        lambda position: draw_box(HEIGHT, WIDTH, tf.stack([5, position]))
    )
    drawn, fits = next(iter(dataset.batch(DRAWS)))
    return drawn.numpy(), fits.numpy()


class Replay:
    """Stands for Python's `random` in timm and gives what we drew from a seed."""

    def __init__(self, seed):
        shares = tf.random.stateless_uniform((4, 10), seed).numpy().astype(float)
        self.areas, self.ratios, self.tops, self.lefts = shares
        self.tries = -1
        self.is_area = False

    def random(self):
        return 0.0

    def uniform(self, low, high):
        self.is_area = not self.is_area
        self.tries += self.is_area
        share = (self.areas if self.is_area else self.ratios)[self.tries]
        self.is_top = True
        return low + (high - low) * share

    def randint(self, low, high):
        share = (self.tops if self.is_top else self.lefts)[self.tries]
        self.is_top = False
        return low + math.floor(share * (high - low + 1))


@pytest.mark.parametrize(("height", "width"), [(HEIGHT, WIDTH), (64, 64), (9, 60)])
def test_boxes_are_timms(monkeypatch, height, width):
    erasing = timm.data.random_erasing.RandomErasing(1.0, mode="pixel", device="cpu")
    for number in range(300):
        seed = tf.constant([11, number])
        box, fits = draw_box(height, width, seed)
        monkeypatch.setattr(timm.data.random_erasing, "random", Replay(seed))
        image = erasing(torch.full((3, height, width), 99.0)).numpy()
        is_erased = (image != 99).any(axis=0)
        assert fits == is_erased.any()
        if fits:
            assert box_of(is_erased) == tuple(box.numpy())


def test_boxes_are_spread_as_timms(boxes):
    drawn, fits = boxes
    assert fits.all()  # ten tries miss 2 in 10**5 at most
    top, left, height, width = drawn.T
    assert (top >= 0).all() and (top + height <= HEIGHT).all() and (height < HEIGHT).all()
    assert (left >= 0).all() and (left + width <= WIDTH).all() and (width < WIDTH).all()
    erasing = timm.data.random_erasing.RandomErasing(1.0, mode="pixel", device="cpu")
    timm.data.random_erasing.random.seed(0)
    torch.manual_seed(0)
    blank = (erasing(torch.full((3, HEIGHT, WIDTH), 99.0)).numpy() for _ in range(3000))
    theirs = np.array([box_of((image != 99).any(axis=0)) for image in blank]).T
    for ours, timms in [
        (height * width, theirs[2] * theirs[3]),
        (height / width, theirs[2] / theirs[3]),
        (top / (HEIGHT - height), theirs[0] / (HEIGHT - theirs[2])),
        (left / (WIDTH - width), theirs[1] / (WIDTH - theirs[3])),
    ]:
        assert stats.ks_2samp(ours, timms).pvalue > 1e-3


def erased(probability, count):
    image = tf.constant(np.random.default_rng(0).integers(0, 256, (24, 24, 3)), tf.float32)
    dataset = tf.data.Dataset.range(count).map(
        lambda position: random_erasing(image, probability, tf.stack([3, position])),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    assert dataset.element_spec == tf.TensorSpec((24, 24, 3), tf.float32)
    return image.numpy(), next(iter(dataset.batch(count))).numpy()


def test_one_image_in_four_is_erased():
    image, images = erased(0.25, DRAWS)
    share = (images != image).any(axis=(1, 2, 3)).mean()
    assert share == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / DRAWS))


def test_a_probability_of_0_erases_nothing():
    image, images = erased(0.0, 100)
    assert (images == image).all()


def test_the_noise_is_standard_normal_once_normalised():
    image, images = erased(1.0, 500)
    is_erased = (images != image).any(axis=-1)
    assert all(box_of(one)[2] for one in is_erased)
    noise = (images[is_erased] - MEAN) / STD
    for channel in noise.T:
        assert stats.kstest(channel[::7], "norm").pvalue > 1e-4
    correlations = np.corrcoef(noise.T)
    assert abs(correlations[np.triu_indices(3, 1)]).max() < 5 / np.sqrt(len(noise))
    assert images.min() < 0 and images.max() > 255  # not confined to what an image holds


def test_whether_and_where_do_not_hang_together():
    _, images = erased(0.25, 4000)
    reference, every = erased(1.0, 4000)
    is_erased = (images != reference).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(images[is_erased], every[is_erased])
    areas = (every != reference).any(axis=-1).sum(axis=(1, 2))
    assert stats.ks_2samp(areas[is_erased], areas[~is_erased]).pvalue > 1e-3
