"""TrivialAugmentWide against torchvision's, on Pillow's images, given the same draws."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import torch
from PIL import Image
from scipy import stats
from sklearn.datasets import load_sample_image
from torchvision.transforms import InterpolationMode, TrivialAugmentWide, autoaugment

from keras_convnext.data.transforms.trivial_augment import BINS, OPERATIONS, draw, trivial_augment

pytestmark = pytest.mark.backend_free

RESAMPLED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
DRAWS = 10_000
TORCHVISIONS = TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR)
SPACE = TORCHVISIONS._augmentation_space(BINS)


def pictures():
    china, flower = (load_sample_image(f"{name}.jpg") for name in ("china", "flower"))
    return {"square": china[100:324, 200:424], "odd": flower[13:114, 50:237]}


PICTURES = {name: np.ascontiguousarray(image) for name, image in pictures().items()}


def torchvisions_magnitudes(name):
    """Returns every magnitude that torchvision may draw, in both directions."""
    magnitudes, is_signed = SPACE[name]
    magnitudes = torch.atleast_1d(magnitudes).tolist()
    return magnitudes + [-magnitude for magnitude in magnitudes] * is_signed


def torchvisions(name, image, magnitude):
    image = Image.fromarray(image)
    return np.asarray(
        autoaugment._apply_op(image, name, magnitude, InterpolationMode.BILINEAR, None)
    )


@functools.cache
def in_graph(name):
    """Returns an operation traced once, for images of any size."""
    specs = [tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((), tf.float64)]
    return tf.function(OPERATIONS[name].apply, input_signature=specs)


def test_the_operations_and_their_magnitudes_are_torchvisions():
    assert list(OPERATIONS) == list(SPACE)
    for name, (magnitudes, is_signed) in SPACE.items():
        expected = np.broadcast_to(magnitudes.numpy(), BINS)
        np.testing.assert_array_equal(OPERATIONS[name].magnitudes, expected)
        assert OPERATIONS[name].is_signed == is_signed


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_torchvisions(name, picture):
    image = PICTURES[picture]
    for magnitude in torchvisions_magnitudes(name):
        expected = torchvisions(name, image, magnitude)
        result = in_graph(name)(image, tf.constant(magnitude, tf.float64)).numpy()
        assert result.dtype == np.uint8
        if name in RESAMPLED:
            difference = np.abs(expected.astype(int) - result)
            assert difference.max() <= 1  # where float32 falls on the other side of a whole number
            assert difference.mean() <= 0.02
        else:
            np.testing.assert_array_equal(result, expected)


def test_what_is_drawn_is_what_is_done(monkeypatch):
    """Whole images against torchvision's transform, in a graph and in parallel."""
    image = PICTURES["odd"]

    def both(position):
        seed = tf.stack([3, position])
        return trivial_augment(tf.cast(tf.constant(image), tf.float32), seed), draw(seed)

    dataset = tf.data.Dataset.range(200).map(both, num_parallel_calls=tf.data.AUTOTUNE)
    assert dataset.element_spec[0].shape == image.shape
    seen = set()
    for result, (number, magnitude) in dataset.as_numpy_iterator():
        name = list(SPACE)[number]
        place = int(np.abs(OPERATIONS[name].magnitudes - abs(magnitude)).argmin())
        answers = [number, *[place] * (SPACE[name][0].ndim > 0), magnitude < 0]
        replay = iter([torch.tensor([int(answer)]) for answer in answers])
        monkeypatch.setattr(torch, "randint", lambda *args, replay=replay, **_: next(replay))
        expected = np.asarray(TORCHVISIONS(Image.fromarray(image)))
        assert result.dtype == np.float32
        assert np.abs(result - expected).max() <= 1
        seen.add(name)
    assert seen == set(OPERATIONS)


@pytest.fixture(scope="module")
def draws():
    dataset = tf.data.Dataset.range(DRAWS).map(lambda position: draw(tf.stack([7, position])))
    numbers, magnitudes = next(iter(dataset.batch(DRAWS)))
    return numbers.numpy(), magnitudes.numpy()


def test_operations_magnitudes_and_directions_are_drawn_uniformly(draws):
    numbers, magnitudes = draws
    assert stats.chisquare(np.bincount(numbers, minlength=14)).pvalue > 1e-4
    rotations = magnitudes[numbers == list(OPERATIONS).index("Rotate")]
    places = np.round(np.abs(rotations) / 4.5).astype(int)
    assert stats.chisquare(np.bincount(places, minlength=BINS)).pvalue > 1e-4
    signed = [list(OPERATIONS).index(name) for name, (_, is_signed) in SPACE.items() if is_signed]
    of_signed = magnitudes[np.isin(numbers, signed) & (magnitudes != 0)]
    assert (of_signed < 0).mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(of_signed)))
    assert (magnitudes[~np.isin(numbers, signed)] >= 0).all()


def test_what_is_drawn_does_not_hang_together(draws):
    numbers, magnitudes = draws
    for name in ("Brightness", "Rotate"):
        of_name = magnitudes[numbers == list(OPERATIONS).index(name)]
        of_name = of_name[of_name != 0]
        error = 1 / np.sqrt(len(of_name))
        assert abs(np.corrcoef(np.abs(of_name), of_name > 0)[0, 1]) < 5 * error


def test_a_seed_does_the_same_again():
    image = tf.cast(tf.constant(PICTURES["odd"]), tf.float32)
    results = [trivial_augment(image, tf.constant([1, seed])).numpy() for seed in (2, 2, 3, 4, 5)]
    np.testing.assert_array_equal(results[0], results[1])
    assert len({result.tobytes() for result in results}) > 2
