"""Resizing and cropping against Pillow, by torchvision's rules written out again here."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import stats
from sklearn.datasets import load_sample_image

from keras_convnext.data.transforms.resize_crop import (
    draw_crop,
    evaluation_image,
    random_crop,
    random_flip,
    resize,
)

pytestmark = pytest.mark.backend_free

AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def pictures():
    """Returns both sample photographs (427 high, 640 wide) in shapes that differ in kind."""
    china, flower = (load_sample_image(f"{name}.jpg") for name in ("china", "flower"))
    return {
        "landscape": china,
        "landscape 2": flower,
        "portrait": china.transpose(1, 0, 2),
        "odd landscape": flower[:331, :509],
        "odd portrait": china[13:400, 100:301],
        "square": flower[:401, :401],
        "small": china[100:141, 200:263],  # enlarged by every setting but the smallest
        "small portrait": flower[200:263, 200:241],
        "wide": china[200:263],
    }


PICTURES = pictures()


def resized_by_pillow(image, height, width):
    """Resizes in Pillow's two passes, one after the other.

    Pillow resized horizontally first until version 13, which begins with the pass that shrinks more
    (python-pillow/Pillow#9549). The paper's networks were trained and evaluated with the former.
    """
    horizontally = Image.fromarray(image).resize((width, len(image)), Image.Resampling.BICUBIC)
    return np.asarray(horizontally.resize((width, height), Image.Resampling.BICUBIC))


def reference(image, size, crop_fraction):
    """Pillow's resizing and torchvision's sizes: `Resize` and `CenterCrop` of the official code."""
    if size >= 384:
        return resized_by_pillow(image, size, size)
    short = int(size / crop_fraction)
    height, width, _ = image.shape
    if width <= height:
        width, height = short, int(short * height / width)
    else:
        width, height = int(short * width / height), short
    top, left = round((height - size) / 2), round((width - size) / 2)
    return resized_by_pillow(image, height, width)[top : top + size, left : left + size]


def assert_nearly_pillows(ours, pillows):
    """Asserts at most 1/255 of difference, and at most 0.01/255 on average."""
    difference = np.abs(ours.astype(int) - pillows.astype(int))
    assert difference.max() <= 1
    assert difference.mean() <= 0.01


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize(
    ("size", "crop_fraction"), [(32, 1.0), (65, 0.9), (224, 0.875), (288, 0.875), (384, 0.875)]
)
def test_evaluation_is_pillows(name, size, crop_fraction):
    ours = evaluation_image(PICTURES[name], size, crop_fraction).numpy()
    assert ours.shape == (size, size, 3)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, np.round(ours))
    assert_nearly_pillows(ours, reference(PICTURES[name], size, crop_fraction))


def test_evaluation_works_inside_a_graph():
    image = PICTURES["odd portrait"]
    in_graph = tf.function(lambda image: evaluation_image(image, 64, 0.875))
    spec = tf.TensorSpec((None, None, 3), tf.uint8)
    assert in_graph.get_concrete_function(spec).structured_outputs.shape == (64, 64, 3)
    np.testing.assert_array_equal(in_graph(image), evaluation_image(image, 64, 0.875))


def test_resizing_overshoots_as_pillow():
    # A black and white pattern is where bicubic filters overshoot most.
    pattern = (np.indices((60, 90)).sum(axis=0) // 3 % 2 * 255).astype("uint8")
    pattern = np.repeat(pattern[..., None], 3, axis=-1)
    for height, width in [(37, 41), (90, 200), (60, 30)]:
        pillows = resized_by_pillow(pattern, height, width)
        assert_nearly_pillows(resize(pattern, height, width).numpy(), pillows)


HEIGHT, WIDTH = 180, 240


@pytest.fixture(scope="module")
def boxes():
    draw = tf.function(lambda seed: draw_crop(HEIGHT, WIDTH, AREA, RATIO, seed))
    return np.array([draw(tf.constant([7, seed])).numpy() for seed in range(2000)])


def drawn_by_the_rule(count):
    """Returns boxes that torchvision's `RandomResizedCrop.get_params` would draw."""
    generator = np.random.default_rng(0)
    boxes = []
    while len(boxes) < count:
        area = HEIGHT * WIDTH * generator.uniform(*AREA)
        ratio = np.exp(generator.uniform(*np.log(RATIO)))
        width, height = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < width <= WIDTH and 0 < height <= HEIGHT:
            top = generator.integers(0, HEIGHT - height + 1)
            left = generator.integers(0, WIDTH - width + 1)
            boxes.append((top, left, height, width))
    return np.array(boxes)


def test_random_crops_stay_within_the_image_and_the_limits(boxes):
    top, left, height, width = boxes.T
    assert boxes.dtype == np.int32
    assert top.min() >= 0 and (top + height).max() <= HEIGHT
    assert left.min() >= 0 and (left + width).max() <= WIDTH
    share, ratio = height * width / (HEIGHT * WIDTH), width / height
    assert share.min() > 0.99 * AREA[0] and share.max() <= 1
    assert ratio.min() > 0.98 * RATIO[0] and ratio.max() < 1.02 * RATIO[1]


@pytest.mark.parametrize("what", ["area", "log ratio", "vertical place", "horizontal place"])
def test_random_crops_are_distributed_as_torchvisions(boxes, what):
    def measured(boxes):
        top, left, height, width = boxes.T
        return {
            "area": height * width,
            "log ratio": np.log(width / height),
            "vertical place": (top + 0.5) / (HEIGHT - height + 1),
            "horizontal place": (left + 0.5) / (WIDTH - width + 1),
        }[what]

    test = stats.ks_2samp(measured(boxes), measured(drawn_by_the_rule(20_000)))
    assert test.pvalue > 0.001


def test_a_seed_draws_the_same_part_again():
    def draw(*seed):
        return draw_crop(HEIGHT, WIDTH, AREA, RATIO, tf.constant(seed)).numpy().tolist()

    assert draw(3, 4) == draw(3, 4)
    assert draw(3, 4) != draw(3, 5)
    assert draw(3, 4) != draw(4, 4)


@pytest.mark.parametrize(
    ("shape", "ratio", "box"),
    [
        # No part of a strip has 8 % of its area and such a ratio.
        ((10, 640), RATIO, [0, 313, 10, 13]),
        ((427, 12), RATIO, [205, 0, 16, 12]),
        # The whole of a square is asked for, and a ratio it does not have.
        ((100, 100), (1.3, 1.4), [11, 0, 77, 100]),
    ],
)
def test_where_no_crop_fits_the_centre_is_taken(shape, ratio, box):
    area = (1.0, 1.0) if shape == (100, 100) else AREA
    assert draw_crop(*shape, area, ratio, tf.constant([0, 0])).numpy().tolist() == box


def test_a_padded_crop_is_cut_at_every_place_alike():
    image = PICTURES["small"][:6, :9].astype("float32")
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, image.shape)[:, :, 0]
    assert windows.shape == (5, 5, 6, 9, 3)
    crop = tf.function(lambda seed: random_crop(tf.constant(image), 2, seed))
    counts = np.zeros((5, 5))
    for seed in range(1000):
        cropped = crop(tf.constant([3, seed])).numpy()
        counts += (windows == cropped).all(axis=(2, 3, 4))
    assert counts.sum() == 1000  # every one of them is one window
    assert stats.chisquare(counts.ravel()).pvalue > 1e-4


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_flips_are_as_frequent_as_asked_for(probability):
    image = PICTURES["small"][:4, :6]
    flip = tf.function(lambda seed: random_flip(tf.constant(image), probability, seed))
    flipped = 0
    for seed in range(400):
        result = flip(tf.constant([2, seed])).numpy()
        mirrored = np.array_equal(result, image[:, ::-1])
        assert mirrored or np.array_equal(result, image)
        flipped += mirrored
    # Four deviations of a binomial draw: 0 and 1 leave no room at all.
    assert abs(flipped - 400 * probability) <= 4 * np.sqrt(400 * probability * (1 - probability))
