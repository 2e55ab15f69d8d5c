"""The operations against timm's, which are Pillow's, and the draws against timm's formulas."""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import stats
from sklearn.datasets import load_sample_image
from timm.data import auto_augment

from keras_convnext.data.transforms import pillow_ops
from keras_convnext.data.transforms.rand_augment import OPERATIONS, draw, rand_augment
from keras_convnext.recipe import RandAugment

pytestmark = pytest.mark.backend_free

GEOMETRIC = ["Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel"]
DIRECTIONLESS = ["AutoContrast", "Equalize", "Invert", "PosterizeIncreasing"]
DIRECTIONLESS += ["SolarizeIncreasing", "SolarizeAdd"]
LEVELS = (0.0, 3.3, 5.0, 9.0, 9.37, 10.0)
DRAWS = 10_000


def pictures():
    china, flower = (load_sample_image(f"{name}.jpg") for name in ("china", "flower"))
    dull = np.stack([china[..., 0] // 4 + 90, np.full_like(china[..., 0], 77), china[..., 2]], -1)
    return {
        "square": china[100:324, 200:424],
        "odd": flower[13:214, 50:387],
        "small": china[30:39, 100:117],  # fewer values than 256, as equalising tells apart
        "dull": dull[:120, :90],  # one channel of few values, another of one
        "pattern": np.repeat((np.indices((60, 90)).sum(0) // 3 % 2 * 255)[..., None], 3, -1),
    }


PICTURES = {name: np.ascontiguousarray(image, "uint8") for name, image in pictures().items()}


def timms_operation(name, magnitude, deviation=0.0, probability=1.0):
    hparams = {
        "img_mean": pillow_ops.FILL,
        "interpolation": Image.Resampling.BICUBIC,
        "magnitude_std": deviation,
    }
    return auto_augment.AugmentOp(name, probability, magnitude, hparams)


@pytest.fixture
def timms(monkeypatch):
    """Returns an image after one of timm's operations, with the direction given to it."""

    def apply(name, image, level):
        # timm takes the other direction if its draw exceeds a half.
        monkeypatch.setattr(auto_augment.random, "random", lambda: 0.2 if level >= 0 else 0.8)
        return np.asarray(timms_operation(name, abs(level))(Image.fromarray(image)))

    return apply


@functools.cache
def in_graph(name):
    """Returns an operation traced once, for images of any size."""
    specs = [tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((), tf.float64)]
    return tf.function(OPERATIONS["all"][name], input_signature=specs)


def ours(name, image, level):
    return in_graph(name)(image, tf.constant(level / 10, tf.float64)).numpy()


def test_the_operations_are_timms():
    assert sorted(OPERATIONS["all"]) == sorted(auto_augment._RAND_INCREASING_TRANSFORMS)
    assert sorted(OPERATIONS["geometric"]) == sorted(GEOMETRIC)
    assert {**OPERATIONS["colour"], **OPERATIONS["geometric"]} == OPERATIONS["all"]


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", OPERATIONS["all"])
def test_an_operation_is_pillows(timms, name, picture):
    image = PICTURES[picture]
    for level in [*LEVELS, *(-level for level in LEVELS)]:
        pillows, result = timms(name, image, level), ours(name, image, level)
        assert result.dtype == np.uint8
        if name in GEOMETRIC:
            difference = np.abs(pillows.astype(int) - result)
            assert difference.max() <= 1  # where float32 falls on the other side of a whole number
            assert difference.mean() <= 0.02
        else:
            np.testing.assert_array_equal(result, pillows)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 7), (7, 2), (3, 3)])
@pytest.mark.parametrize("name", OPERATIONS["all"])
def test_an_operation_is_pillows_on_the_thinnest_images(timms, name, shape):
    image = PICTURES["square"][: shape[0], : shape[1]]
    for level in (9.0, -9.0):
        pillows, result = timms(name, image, level), ours(name, image, level)
        assert result.shape == image.shape
        assert np.abs(pillows.astype(int) - result).max() <= (name in GEOMETRIC)


@pytest.mark.parametrize("value", [0, 1, 77, 131, 251, 255])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_even_surfaces_stay_even(timms, name, value):
    image = np.full((61, 97, 3), value, "uint8")
    for level in (-9.37, 0.7, 3.3, 9.0):
        np.testing.assert_array_equal(ours(name, image, level), timms(name, image, level))


@pytest.mark.parametrize("name", OPERATIONS["all"])
def test_an_operation_heeds_its_level_and_its_direction(name):
    image = PICTURES["dull"]
    strong, weak, back = (ours(name, image, level) for level in (9.0, 2.0, -9.0))
    assert (strong != image).mean() > 0.02
    assert np.array_equal(strong, weak) == (name in ("AutoContrast", "Equalize", "Invert"))
    assert np.array_equal(strong, back) == (name in DIRECTIONLESS)


def draws(settings, count=DRAWS):
    """Returns what is drawn from as many seeds as there are images: numbers and levels."""
    dataset = tf.data.Dataset.range(count).map(
        lambda position: draw(settings, tf.stack([7, position]))
    )
    numbers, levels = next(iter(dataset.batch(count)))
    return numbers.numpy(), levels.numpy()


@pytest.fixture(scope="module")
def papers():
    return draws(RandAugment())


def test_two_operations_are_drawn_uniformly_with_replacement(papers):
    numbers, _ = papers
    assert numbers.shape == (DRAWS, 2)
    assert set(np.unique(numbers)) == set(range(16))  # 15 stands for none
    applied = numbers[(numbers < 15).all(axis=1)]
    pairs = np.bincount(applied[:, 0] * 15 + applied[:, 1], minlength=225)
    assert stats.chisquare(pairs).pvalue > 1e-4


def test_each_is_applied_with_probability_one_half(papers):
    counts = np.bincount((papers[0] < 15).sum(axis=1), minlength=3)
    assert stats.chisquare(counts, DRAWS * np.array([0.25, 0.5, 0.25])).pvalue > 1e-4


def test_strength_and_direction_are_as_in_timm(papers):
    levels = papers[1].ravel()
    clipped = stats.truncnorm(-np.inf, 2, 0.9, 0.05)  # clipping moves one in 44 to 1
    assert abs(levels).max() == 1
    assert (abs(levels) == 1).mean() == pytest.approx(stats.norm.sf(2), abs=4 * 0.15 / 141)
    assert stats.kstest(abs(levels[abs(levels) < 1]), clipped.cdf).pvalue > 1e-4
    assert (levels > 0).mean() == pytest.approx(0.5, abs=4 * 0.5 / 141)
    ups = (papers[1] > 0).sum(axis=1)  # the two directions are independent
    assert stats.chisquare(np.bincount(ups), DRAWS * np.array([0.25, 0.5, 0.25])).pvalue > 1e-4


def test_draws_do_not_hang_together(papers):
    numbers, levels = papers
    columns = [*(numbers < 15).T, *(numbers % 15).T, *(levels > 0).T, *abs(levels).T]
    correlations = np.corrcoef(columns)
    # An operation not applied has the number 0 here, which is why those two pairs are left out.
    linked = {(0, 2), (1, 3)}
    pairs = set(itertools.combinations(range(8), 2)) - linked
    assert max(abs(correlations[pair]) for pair in pairs) < 5 / np.sqrt(DRAWS)


def test_strength_is_clipped_below_too():
    _, levels = draws(RandAugment(magnitude=0.05, magnitude_std=0.1), 1000)
    assert (levels == 0).mean() == pytest.approx(stats.norm.cdf(-0.5), abs=0.05)


@pytest.mark.parametrize(("probability", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_the_probability_is_the_recipes(probability, share):
    numbers, _ = draws(RandAugment(probability=probability, operations=3, kinds="geometric"), 100)
    assert numbers.shape == (100, 3)
    assert (numbers < 5).mean() == share


@pytest.mark.parametrize("kinds", ["all", "colour", "geometric"])
def test_what_is_drawn_is_what_is_done(timms, kinds):
    """Whole images against timm's operations one after the other, in a graph and in parallel."""
    image = PICTURES["small"]
    settings = RandAugment(kinds=kinds, probability=0.8)
    names = list(OPERATIONS[kinds])

    def both(position):
        seed = tf.stack([3, position])
        as_float = tf.cast(tf.constant(image), tf.float32)
        return rand_augment(as_float, settings, seed), draw(settings, seed)

    dataset = tf.data.Dataset.range(200).map(both, num_parallel_calls=tf.data.AUTOTUNE)
    assert dataset.element_spec[0].shape == image.shape
    for result, (numbers, levels) in dataset.as_numpy_iterator():
        expected = image
        for number, level in zip(numbers, levels, strict=True):
            if number < len(names):
                expected = timms(names[number], expected, 10 * level)
        assert result.dtype == np.float32
        # Solarising, equalising and the like tear values apart that differ by 1 after moving.
        assert (np.abs(result - expected) <= 1).mean() > 0.97


def test_draws_make_the_images_of_timms_rand_augment_on_average():
    """Mean and deviation of many images after timm's whole transform and after ours."""
    image = PICTURES["small"]
    timms = auto_augment.rand_augment_transform(
        "rand-m9-mstd0.5-inc1",
        {"img_mean": pillow_ops.FILL, "interpolation": Image.Resampling.BICUBIC},
    )
    auto_augment.random.seed(0)
    np.random.seed(0)
    theirs = [np.asarray(timms(Image.fromarray(image))) for _ in range(3000)]
    as_float = tf.cast(tf.constant(image), tf.float32)
    dataset = tf.data.Dataset.range(3000).map(
        lambda position: rand_augment(as_float, RandAugment(), tf.stack([0, position])),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    images = list(dataset.as_numpy_iterator())
    for figure in (np.mean, np.std):
        values = [[figure(one, dtype=np.float64) for one in side] for side in (theirs, images)]
        assert stats.ks_2samp(*values).pvalue > 1e-3
