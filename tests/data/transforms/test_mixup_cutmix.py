"""Mixup and CutMix against timm's, given the same draws, and the draws against their formulas."""

import numpy as np
import pytest
import tensorflow as tf
import timm.data.mixup
import torch
from scipy import stats

from keras_convnext.data.transforms.mixup_cutmix import cut_box, draw, mix, smooth
from keras_convnext.recipe import Augment

pytestmark = pytest.mark.backend_free

BATCH, HEIGHT, WIDTH, CLASSES = 6, 24, 31, 5
DRAWS = 10_000
BOTH = Augment()
MIXUP = Augment(cutmix_alpha=0.0)
CUTMIX = Augment(mixup_alpha=0.0)


@pytest.fixture(scope="module")
def batch():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (BATCH, HEIGHT, WIDTH, 3)).astype("float32")
    return images, np.array([0, 1, 2, 3, 4, 2])


class Replay:
    """Stands for `numpy.random` in timm and gives what we drew."""

    def __init__(self, draws):
        self.apply, self.is_cutmix, self.lam, centre = (one.numpy() for one in draws)
        self.choices = iter([0.0 if self.apply else 0.9999, 0.0 if self.is_cutmix else 0.9999])
        self.centre = iter(centre)

    def rand(self):
        return next(self.choices)

    def beta(self, *alphas):
        return self.lam

    def randint(self, low, high, size):
        return int(low + next(self.centre) * np.float32(high - low))


class NumPy:
    """NumPy with another `random`."""

    def __init__(self, random):
        self.random = random

    def __getattr__(self, name):
        return getattr(np, name)


@pytest.mark.parametrize(
    "settings",
    [
        BOTH,
        MIXUP,
        CUTMIX,
        Augment(mix_probability=0.5, switch_probability=0.3, label_smoothing=0.2),
    ],
    ids=["both", "mixup", "cutmix", "sometimes"],
)
def test_batches_are_mixed_as_by_timm(batch, settings, monkeypatch):
    images, labels = batch
    mixup = timm.data.mixup.Mixup(
        settings.mixup_alpha,
        settings.cutmix_alpha,
        prob=settings.mix_probability,
        switch_prob=settings.switch_probability,
        label_smoothing=settings.label_smoothing,
        num_classes=CLASSES,
    )
    in_graph = tf.function(lambda images, labels, seed: mix(images, labels, settings, seed))
    smoothed = smooth(tf.one_hot(labels, CLASSES), settings.label_smoothing)
    kinds = set()
    for number in range(100):
        seed = tf.constant([1, number])
        draws = draw(settings, seed)
        kinds.add((bool(draws.apply), bool(draws.is_cutmix)))
        monkeypatch.setattr(timm.data.mixup, "np", NumPy(Replay(draws)))
        theirs, targets = mixup(torch.tensor(images.transpose(0, 3, 1, 2)), torch.tensor(labels))
        ours, our_targets = in_graph(images, smoothed, seed)
        np.testing.assert_allclose(ours, theirs.permute(0, 2, 3, 1).numpy(), atol=1e-4)
        np.testing.assert_allclose(our_targets, targets.numpy(), atol=1e-6)
    assert len(kinds) >= (2 if settings.mixup_alpha and settings.cutmix_alpha else 1)


def test_labels_are_smoothed_as_by_timm(batch):
    labels = batch[1]
    ours = smooth(tf.one_hot(labels, CLASSES), 0.1)
    theirs = timm.data.mixup.mixup_target(torch.tensor(labels), CLASSES, 1.0, smoothing=0.1)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-6)


def test_without_either_nothing_is_mixed(batch):
    images, labels = batch[0], np.eye(CLASSES, dtype="float32")[batch[1]]
    neither = Augment(mixup_alpha=0.0, cutmix_alpha=0.0)
    mixed = mix(tf.constant(images), tf.constant(labels), neither, tf.constant([0, 0]))
    np.testing.assert_array_equal(mixed[0], images)
    np.testing.assert_array_equal(mixed[1], labels)


def draws(settings, height=HEIGHT, width=WIDTH):
    """Returns what is drawn from as many seeds, and CutMix's boxes."""

    def one(number):
        drawn = draw(settings, tf.stack([9, number]))
        return drawn, cut_box(height, width, drawn)

    dataset = tf.data.Dataset.range(DRAWS).map(one, num_parallel_calls=tf.data.AUTOTUNE)
    (apply, is_cutmix, lam, centre), boxes = next(iter(dataset.batch(DRAWS)))
    return apply.numpy(), is_cutmix.numpy(), lam.numpy(), centre.numpy(), boxes.numpy()


def near(share):
    return pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / DRAWS))


def test_kinds_and_shares_are_the_recipes():
    settings = Augment(
        mixup_alpha=0.4, cutmix_alpha=1.7, mix_probability=0.7, switch_probability=0.2
    )
    apply, is_cutmix, lam, _, _ = draws(settings)
    assert apply.mean() == near(0.7)
    assert is_cutmix.mean() == near(0.2)
    assert (apply & is_cutmix).mean() == near(0.14)
    assert stats.kstest(lam[is_cutmix], stats.beta(1.7, 1.7).cdf).pvalue > 1e-4
    assert stats.kstest(lam[~is_cutmix], stats.beta(0.4, 0.4).cdf).pvalue > 1e-4


def test_the_papers_batches_are_all_mixed_half_by_cutmix():
    apply, is_cutmix, lam, _, _ = draws(BOTH)
    assert apply.all()
    assert is_cutmix.mean() == near(0.5)
    assert stats.kstest(lam[is_cutmix], "uniform").pvalue > 1e-4  # Beta(1, 1)
    assert stats.kstest(lam[~is_cutmix], stats.beta(0.8, 0.8).cdf).pvalue > 1e-4


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_shares_vary_as_much_as_their_distribution(alpha):
    _, _, lam, _, _ = draws(Augment(mixup_alpha=alpha, cutmix_alpha=0.0))
    beta = stats.beta(alpha, alpha)
    error = np.sqrt((beta.stats("k") + 2) / DRAWS)  # of a variance, relative to it
    assert lam.var() == pytest.approx(beta.var(), rel=4 * error)
    assert lam.mean() == pytest.approx(0.5, abs=4 * beta.std() / np.sqrt(DRAWS))


def test_a_strength_near_0_leaves_images_whole():
    _, _, lam, _, _ = draws(Augment(mixup_alpha=1e-4, cutmix_alpha=0.0))
    assert np.isfinite(lam).all()
    assert np.isin(lam, [0, 1]).mean() > 0.99


def test_boxes_are_those_of_timms_formulas():
    height, width = 64, 96
    *_, lam, centre, boxes = draws(CUTMIX, height, width)
    top, bottom, left, right = boxes.T
    assert (top >= 0).all() and (bottom <= height).all() and (top <= bottom).all()
    assert (left >= 0).all() and (right <= width).all() and (left <= right).all()
    for share, side in zip(centre.T, (height, width), strict=True):
        assert stats.chisquare(np.bincount((share * side).astype(int))).pvalue > 1e-4
    assert abs(np.corrcoef([lam, *centre.T])[np.triu_indices(3, 1)]).max() < 5 / 100
    random = np.random.default_rng(0)
    np.random.seed(0)
    theirs = [
        timm.data.mixup.rand_bbox((3, height, width), share) for share in random.random(DRAWS)
    ]
    theirs = np.array([(low - high) * (left - right) for high, low, right, left in theirs])
    areas = (bottom - top) * (right - left)
    assert stats.ks_2samp(areas, np.abs(theirs)).pvalue > 1e-3
