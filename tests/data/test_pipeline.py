import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_convnext.data.pipeline import evaluation_dataset, training_dataset
from keras_convnext.data.sources.split import ArraySplit
from keras_convnext.data.targets import CLASS_TARGETS
from keras_convnext.data.transforms.resize_crop import evaluation_image
from keras_convnext.distribution.shards import position_in_step
from keras_convnext.errors import DataError
from keras_convnext.recipe import Augment, Data, RandAugment, RandomResizedCrop

# Most of what is tested here is TensorFlow's work, whichever backend Keras has.
backend_free = pytest.mark.backend_free

IMAGES, CLASSES, SIZE, BATCH, EPOCHS = 20, 8, 8, 6, 3

PLAIN = {
    "random_resized_crop": None,
    "horizontal_flip": 0.0,
    "rand_augment": None,
    "random_erasing": 0.0,
    "mixup_alpha": 0.0,
    "cutmix_alpha": 0.0,
    "label_smoothing": 0.0,
}
POLICIES = ("paper", "keras_cv")


def everything(policy):
    """All augmentation that a policy has, at once."""
    crop = RandomResizedCrop(area=(0.25, 1.0))
    return {"policy": policy, "random_resized_crop": crop, "mix_probability": 0.8}


@pytest.fixture(scope="module")
def numbered():
    """Images that are their own number all over, so that a batch tells which ones it holds."""
    numbers = np.arange(IMAGES, dtype="uint8")
    images = np.broadcast_to(numbers[:, None, None, None], (IMAGES, SIZE, SIZE, 3)).copy()
    names = tuple("abcdefgh")
    return ArraySplit(images, (numbers % CLASSES).astype("int32"), names)


def random_images():
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 12, 16, 3), dtype="uint8")
    labels = np.arange(IMAGES, dtype="int32") % CLASSES
    return ArraySplit(images, labels, tuple("abcdefgh"))


@pytest.fixture(scope="module")
def noise():
    return random_images()


SHARING = ("start", "step_batch_size", "shard_index", "num_shards")


def batches(split, seed=0, epochs=EPOCHS, batch_size=BATCH, size=SIZE, **options):
    """Builds the training pipeline anew and returns all its images and labels."""
    data = Data(source="digits", image_size=size, crop_fraction=1.0, batch_size=batch_size)
    sharing = {key: options.pop(key) for key in SHARING if key in options}
    dataset = training_dataset(split, data, Augment(**options), epochs, seed, **sharing)
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.stack(images), np.stack(labels)


def order(split, **options):
    """Returns the numbers of the images in the order they are trained on, one row an epoch."""
    images, _ = batches(split, **PLAIN, **options)
    return images[..., 0, 0, 0].reshape(options.get("epochs", EPOCHS), -1).astype(int)


@backend_free
def test_a_run_is_as_long_as_its_plan(numbered):
    images, labels = batches(numbered, **PLAIN)
    assert images.shape == (EPOCHS * (IMAGES // BATCH), BATCH, SIZE, SIZE, 3)
    assert labels.shape == (EPOCHS * (IMAGES // BATCH), BATCH, CLASSES)
    assert images.dtype == labels.dtype == np.float32


@backend_free
@pytest.mark.parametrize("policy", POLICIES)
def test_shapes_are_known_before_a_batch_is_drawn(numbered, policy):
    data = Data(source="digits", image_size=SIZE, batch_size=BATCH)
    augment = Augment(**everything(policy))
    images, labels = training_dataset(numbered, data, augment, 1, 0).element_spec
    assert images.shape == (BATCH, SIZE, SIZE, 3) and images.dtype == tf.float32
    assert labels.shape == (BATCH, CLASSES) and labels.dtype == tf.float32


def test_labels_stay_with_their_images(numbered):
    images, labels = batches(numbered, **PLAIN)
    expected = numbered.labels[images[..., 0, 0, 0].astype(int)]
    np.testing.assert_array_equal(labels, np.eye(CLASSES)[expected])


@backend_free
def test_every_epoch_takes_each_image_at_most_once(numbered):
    for epoch in order(numbered):
        assert len(epoch) == 18  # two images do not fill a batch
        assert len(set(epoch)) == len(epoch)


@backend_free
def test_an_epoch_that_fills_its_batches_takes_every_image(numbered):
    for epoch in order(numbered, batch_size=5):
        assert sorted(epoch) == list(range(IMAGES))


@backend_free
def test_the_images_left_out_differ_from_epoch_to_epoch(numbered):
    left_out = {frozenset(range(IMAGES)) - set(epoch) for epoch in order(numbered, epochs=8)}
    assert len(left_out) > 4


@backend_free
def test_every_epoch_has_its_own_order(numbered):
    first, second, third = order(numbered).tolist()
    assert first != second != third != first


@backend_free
def test_every_image_is_as_likely_in_every_place(numbered):
    places = order(numbered, epochs=400, batch_size=20)
    counts = np.stack([np.bincount(place, minlength=IMAGES) for place in places.T])
    # 20 expected in each of 400 cells: six deviations are never reached by chance.
    assert abs(counts - 400 / IMAGES).max() < 6 * np.sqrt(400 / IMAGES)


@backend_free
def test_the_seed_fixes_the_order(numbered):
    np.testing.assert_array_equal(order(numbered, seed=5), order(numbered, seed=5))
    assert order(numbered, seed=5).tolist() != order(numbered, seed=6).tolist()


@backend_free
def test_without_augmentation_images_are_as_in_evaluation(noise):
    images, labels = batches(noise, **PLAIN)
    prepared = {evaluation_image(image, SIZE, 1.0).numpy().tobytes() for image in noise.images}
    assert {image.tobytes() for image in images.reshape(-1, SIZE, SIZE, 3)} <= prepared
    assert set(np.unique(labels)) == {0, 1}


@backend_free
def test_a_flip_mirrors_every_image(noise):
    plain, _ = batches(noise, **PLAIN)
    flipped, _ = batches(noise, **{**PLAIN, "horizontal_flip": 1.0})
    np.testing.assert_array_equal(flipped, plain[..., ::-1, :])


@backend_free
def test_an_image_is_cropped_anew_in_every_epoch(noise):
    augment = {**PLAIN, "random_resized_crop": RandomResizedCrop()}
    images, _ = batches(noise, epochs=4, batch_size=IMAGES, **augment)
    assert len({image.tobytes() for image in images.reshape(-1, SIZE, SIZE, 3)}) > 70  # of 80


@pytest.fixture(scope="module", params=POLICIES)
def augmented(request, noise):
    """A policy and its batches, built while the network's policy is one of half precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        result = batches(noise, seed=3, **everything(request.param))
        assert keras.config.dtype_policy().name == "mixed_bfloat16"  # left as it was
    finally:
        keras.config.set_dtype_policy(before)
    return request.param, *result


def test_everything_at_once_gives_whole_images_and_labels(augmented):
    policy, images, labels = augmented
    assert images.dtype == labels.dtype == np.float32
    if policy == "keras_cv":
        assert images.min() >= 0 and images.max() <= 255
    assert images.max() > 100 and images.std() > 20
    np.testing.assert_allclose(labels.sum(axis=-1), 1, rtol=1e-6)
    assert labels.min() == pytest.approx(0.1 / CLASSES if policy == "paper" else 0)


def test_everything_at_once_repeats_whatever_the_policy(augmented, noise):
    policy, *before = augmented
    images, labels = batches(noise, seed=3, **everything(policy))  # under float32
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_array_equal(labels, before[1])


@backend_free
def test_another_seed_augments_otherwise(augmented, noise):
    policy, *before = augmented
    images, labels = batches(noise, seed=4, **everything(policy))
    assert not np.array_equal(images, before[0])
    assert not np.array_equal(labels, before[1])


@backend_free
@pytest.mark.parametrize("start", [1, 4, 8])
def test_batches_are_the_same_from_any_start(augmented, noise, start):
    policy, images, labels = augmented
    later_images, later_labels = batches(noise, seed=3, start=start, **everything(policy))
    np.testing.assert_array_equal(later_images, images[start:])
    np.testing.assert_array_equal(later_labels, labels[start:])


IN_ANOTHER_PROCESS = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np
from test_pipeline import batches, everything, random_images
images, labels = batches(random_images(), seed=3, start=4, **everything("keras_cv"))
np.savez(sys.argv[1], images=images, labels=labels)
"""


@backend_free
@pytest.mark.parametrize("augmented", ["keras_cv"], indirect=True)
def test_another_process_can_continue_with_keras_cv(augmented, tmp_path):
    _, images, labels = augmented
    file = tmp_path / "later.npz"
    subprocess.run([sys.executable, "-c", IN_ANOTHER_PROCESS, file], check=True)
    later = np.load(file)
    np.testing.assert_array_equal(later["images"], images[4:])
    np.testing.assert_array_equal(later["labels"], labels[4:])


# RandAugment is slow to build.
UNMIXED = {"rand_augment": None, "mix_probability": 0.0}
MIXED = {"rand_augment": None, "mixup_alpha": 0.8, "cutmix_alpha": 1.0}


def shared(split, num_shards, **options):
    """Returns the images and the labels of every shard, joined in the order of the whole steps."""
    parts = [
        batches(split, shard_index=shard, num_shards=num_shards, **options)
        for shard in range(num_shards)
    ]
    share = parts[0][0].shape[1]
    order = np.concatenate(
        [
            position_in_step(np.arange(share), share, shard, num_shards)
            for shard in range(num_shards)
        ]
    )
    whole = (np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))
    return [arrays[:, np.argsort(order)] for arrays in whole]


@backend_free
@pytest.mark.parametrize(("num_shards", "augment"), [(2, UNMIXED), (3, UNMIXED), (3, MIXED)])
def test_shards_together_have_the_images_of_one_process(noise, num_shards, augment):
    images, labels = batches(noise, **augment)
    for start in (0, 2):
        shared_images, shared_labels = shared(noise, num_shards, start=start, **augment)
        np.testing.assert_array_equal(shared_images, images[start:])
        np.testing.assert_array_equal(shared_labels, labels[start:])


@backend_free
@pytest.mark.parametrize("policy", POLICIES)
def test_each_shard_draws_for_itself(policy):
    same = ArraySplit(np.full((12, 12, 12, 3), 90, "uint8"), np.zeros(12, "int32"), ("a", "b"))
    same.images[:, :6] = 200
    rand_augment = RandAugment(probability=1.0, kinds="geometric", magnitude_std=0.5)
    augment = {**PLAIN, "policy": policy, "rand_augment": rand_augment}
    first, second = (
        batches(same, batch_size=12, shard_index=shard, num_shards=2, **augment)[0]
        for shard in (0, 1)
    )
    assert (first != second).any(axis=(2, 3, 4)).mean() > 0.9


@backend_free
def test_every_step_draws_its_own_mixture(noise):
    labels = batches(noise, **{**PLAIN, "mixup_alpha": 1.0})[1]
    heaviest = labels.max(axis=(1, 2))
    assert len(np.unique(heaviest)) >= len(heaviest) - 2  # some mix two images of one class


@backend_free
@pytest.mark.parametrize(("images", "shards"), [(103, 4), (8, 4), (3, 4), (16, 2), (17, 2)])
def test_shards_of_an_evaluation_have_every_image_once(images, shards):
    numbers = np.arange(images, dtype="uint8")[:, None, None, None]
    labels = np.zeros(images, "int32")
    split = ArraySplit(np.broadcast_to(numbers, (images, 12, 12, 3)).copy(), labels, ("a", "b"))
    whole = [batch[0].numpy()[:, 0, 0, 0] for batch in evaluated(split)]
    parts = [
        [batch[0].numpy()[:, 0, 0, 0] for batch in evaluated(split, index, shards)]
        for index in range(shards)
    ]
    sizes = [[len(batch) for batch in part] for part in parts]
    assert max(map(len, sizes)) <= min(map(len, sizes)) + 1
    for number, batch in enumerate(whole):
        shares = [part[number] for part in parts if number < len(part)]
        np.testing.assert_array_equal(np.concatenate(shares), batch)


def evaluated(split, shard_index=0, num_shards=1):
    return evaluation_dataset(
        split, 12, 1.0, batch_size=8, shard_index=shard_index, num_shards=num_shards
    )


@backend_free
def test_an_evaluation_that_cannot_be_shared_is_refused(noise):
    with pytest.raises(DataError, match="8 images .* cannot be shared equally by 3 shards"):
        evaluated(noise, 0, 3)


@backend_free
def test_an_update_may_take_several_steps(noise):
    images, labels = batches(noise, **UNMIXED)
    for options in ({"step_batch_size": 2}, {"step_batch_size": 2, "start": 4}):
        parts = batches(noise, **options, **UNMIXED)
        assert parts[0].shape[1] == 2
        start = options.get("start", 0)
        for part, whole in zip(parts, (images, labels), strict=True):
            flat = whole.reshape(-1, *whole.shape[2:])
            np.testing.assert_array_equal(part.reshape(-1, *part.shape[2:]), flat[2 * start :])


@backend_free
@pytest.mark.parametrize(("step_batch_size", "num_shards"), [(6, 4), (3, 2), (4, 1)])
def test_steps_that_cannot_be_shared_are_refused(noise, step_batch_size, num_shards):
    expected = f"6 images in steps of {step_batch_size} cannot be shared equally by {num_shards} s"
    with pytest.raises(DataError, match=expected):
        batches(noise, step_batch_size=step_batch_size, num_shards=num_shards)


@backend_free
def test_repeated_images_come_in_a_row_and_an_epoch_stays_as_long(numbered):
    plain, repeated = order(numbered), order(numbered, repeated_augmentation=3)
    np.testing.assert_array_equal(repeated, np.repeat(plain[:, :6], 3, axis=1))


@backend_free
def test_repeats_that_do_not_fill_an_epoch_are_cut_short(numbered):
    for epoch, plain in zip(order(numbered, repeated_augmentation=4), order(numbered), strict=True):
        np.testing.assert_array_equal(epoch, np.repeat(plain, 4)[:18])


@backend_free
def test_every_repeat_is_augmented_anew(noise):
    augment = {**PLAIN, "random_resized_crop": RandomResizedCrop()}
    images, labels = batches(noise, repeated_augmentation=6, **augment)
    for batch, targets in zip(images, labels, strict=True):
        assert len({image.tobytes() for image in batch}) >= 5
        assert len(np.unique(targets, axis=0)) == 1


@backend_free
def test_without_a_resized_crop_images_may_be_padded_and_cropped(numbered):
    images, _ = batches(numbered, **{**PLAIN, "random_crop_padding": 3})
    plain, _ = batches(numbered, **PLAIN)
    number = plain[..., :1, :1, :1]
    assert ((images == number) | (images == 0)).all()
    is_inside = images[..., 0] != 0
    rows, columns = is_inside.any(axis=3).sum(axis=2), is_inside.any(axis=2).sum(axis=2)
    shown = plain[..., 0, 0, 0] > 0  # the image of the number 0 is black itself
    assert rows[shown].min() == columns[shown].min() == SIZE - 3
    assert rows[shown].max() == columns[shown].max() == SIZE


@backend_free
def test_the_policy_none_crops_and_mirrors_only(noise):
    crop = {"random_resized_crop": RandomResizedCrop(), "horizontal_flip": 1.0}
    images, labels = batches(noise, policy="none", label_smoothing=0.2, **crop)
    plain, hard = batches(noise, **{**PLAIN, **crop})
    np.testing.assert_array_equal(images, plain)
    np.testing.assert_allclose(labels, 0.8 * hard + 0.2 / CLASSES, atol=1e-6)


# An image that tells where a crop of it came from: red is the row, green is the column.
ROWS, COLUMNS = np.indices((180, 240)).astype("uint8")
COORDINATES = np.stack([ROWS, COLUMNS, np.zeros_like(ROWS)], axis=-1)
CROP_SIZE = 128


def box_of(crop):
    """Returns top, left, height and width of the part of `COORDINATES` that was cropped.

    Resizing keeps a ramp a ramp, but for the image's edges, so a line through each gives its ends.
    """
    inner = np.arange(CROP_SIZE)[8:-8]
    ends = []
    for channel, axis in ((0, 1), (1, 0)):
        slope, start = np.polyfit(inner, crop[..., channel].mean(axis=axis)[8:-8], 1)
        ends.append((start - slope / 2 + 0.5, slope * CROP_SIZE))
    (top, height), (left, width) = ends
    return np.round([top, left, height, width]).astype(int)


@backend_free
def test_random_crops_are_parts_resized_as_by_pillow():
    split = ArraySplit(np.stack([COORDINATES] * 6), np.zeros(6, "int32"), ("a",))
    augment = {**PLAIN, "random_resized_crop": RandomResizedCrop()}
    images, _ = batches(split, epochs=1, size=CROP_SIZE, **augment)
    boxes = set()
    for image in images[0]:
        top, left, height, width = box_of(image)
        boxes.add((top, left, height, width))
        part = Image.fromarray(COORDINATES[top : top + height, left : left + width])
        for size in ((CROP_SIZE, height), (CROP_SIZE, CROP_SIZE)):
            part = part.resize(size, Image.Resampling.BICUBIC)
        assert np.abs(image - np.asarray(part)).max() <= 1
    assert len(boxes) == 6


@backend_free
def test_an_image_and_a_batch_of_one_number_share_no_draws(noise):
    # Were a batch's seed that of the image of its number, its draws would be that image's.
    seeds = []
    for name in ("training_example", "mix"):
        wrapped = getattr(CLASS_TARGETS, name)
        with pytest.MonkeyPatch.context() as patch:

            def spy(*arguments, wrapped=wrapped):
                tf.py_function(lambda seed: seeds.append(tuple(seed.numpy())), arguments[-1:], [])
                return wrapped(*arguments)

            patch.setattr(CLASS_TARGETS, name, spy)
            batches(noise, seed=3, **PLAIN)
    assert len(seeds) == len(set(seeds)) == EPOCHS * (18 + 3)


@backend_free
def test_every_map_of_the_papers_policy_is_parallel_and_in_order(noise, monkeypatch):
    maps = []
    plain_map = tf.data.Dataset.map
    monkeypatch.setattr(
        tf.data.Dataset,
        "map",
        lambda *args, **options: maps.append(options) or plain_map(*args, **options),
    )
    batches(noise, epochs=1, **everything("paper"))
    in_order = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
    assert maps == [in_order] * 3


@backend_free
def test_some_images_are_erased_after_all_else(noise):
    plain, _ = batches(noise, epochs=30, **PLAIN)
    erased, _ = batches(noise, epochs=30, **{**PLAIN, "random_erasing": 0.25})
    share = (plain != erased).any(axis=(2, 3, 4)).mean()
    assert share == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 540))
    assert erased.min() < 0 or erased.max() > 255


@backend_free
@pytest.mark.parametrize("mixup_alpha", [0.0, 0.8])
def test_the_papers_targets_come_smoothed_whether_mixed_or_not(noise, mixup_alpha):
    augment = {**PLAIN, "mixup_alpha": mixup_alpha}
    _, labels = batches(noise, **augment)
    _, smoothed = batches(noise, **{**augment, "label_smoothing": 0.2})
    np.testing.assert_allclose(smoothed, 0.8 * labels + 0.2 / CLASSES, atol=1e-6)


@backend_free
def test_keras_cvs_targets_come_unsmoothed(noise):
    augment = {**PLAIN, "policy": "keras_cv", "label_smoothing": 0.2}
    assert set(np.unique(batches(noise, **augment)[1])) == {0, 1}


@backend_free
@pytest.mark.parametrize("policy", POLICIES)
def test_rand_augment_changes_images_but_not_labels(noise, policy):
    plain = batches(noise, **PLAIN)
    augment = {**PLAIN, "policy": policy, "rand_augment": RandAugment(probability=1.0)}
    augmented = batches(noise, **augment)
    changed = (plain[0] != augmented[0]).any(axis=(2, 3, 4))
    assert changed.mean() > 0.7
    np.testing.assert_array_equal(plain[1], augmented[1])


@backend_free
def test_trivial_augment_takes_the_place_of_rand_augment(noise):
    plain = batches(noise, **PLAIN)
    augmented = batches(noise, **{**PLAIN, "trivial_augment": True})
    changed = (plain[0] != augmented[0]).any(axis=(2, 3, 4))
    assert changed.mean() > 0.7  # one operation in 14 is none, and some are too weak to tell
    np.testing.assert_array_equal(plain[1], augmented[1])


@backend_free
@pytest.mark.parametrize("kinds", ["colour", "geometric", "all"])
def test_keras_cv_draws_from_the_kinds_asked_for(kinds):
    # A light square on a dark ground: colour operations treat all pixels of one value alike, and
    # geometric ones bring no value that was not between those two.
    image = np.full((SIZE, SIZE, 3), 50, "uint8")
    image[2:5, 3:6] = 200
    split = ArraySplit(np.stack([image] * 18), np.zeros(18, "int32"), ("square",))
    settings = RandAugment(kinds=kinds, probability=1.0, magnitude=0.9)
    augment = {**PLAIN, "policy": "keras_cv", "rand_augment": settings}
    images, _ = batches(split, **augment)
    ground = images[..., image[..., 0] == 50, :]
    moved = np.ptp(ground, axis=2).max(axis=-1) > 1e-3
    recoloured = (images.min(axis=(2, 3, 4)) < 49) | (images.max(axis=(2, 3, 4)) > 201)
    assert moved.any() == (kinds != "colour")
    assert recoloured.any() == (kinds != "geometric")


@backend_free
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_images_are_mixed_as_their_labels_say(numbered, kind, policy):
    augment = {**PLAIN, "policy": policy, f"{kind}_alpha": 1.0, "mix_probability": 1.0}
    images, labels = batches(numbered, epochs=10, **augment)
    values = images[..., 0]
    if kind == "mixup":
        assert np.ptp(values, axis=(2, 3)).max() < 1e-4  # each pixel has the same share
    else:
        np.testing.assert_array_equal(values, np.round(values))  # each pixel is of one image
        assert np.ptp(values, axis=(2, 3)).max() > 0
    assert (labels.max(axis=-1) < 1).mean() > 0.5
    assert ((labels > 0).sum(axis=-1) <= 2).all()


@backend_free
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "off", [{"mix_probability": 0.0}, {"mixup_alpha": 0.0, "cutmix_alpha": 0.0}]
)
def test_without_mixing_labels_stay_one_hot(noise, off, policy):
    augment = {**PLAIN, "policy": policy, "mixup_alpha": 0.8, "cutmix_alpha": 1.0, **off}
    _, labels = batches(noise, **augment)
    assert set(np.unique(labels)) == {0, 1}


@backend_free
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("switch_probability", "cut"),
    [(0.0, 0.0), (0.5, 0.25), (1.0, 0.5)],
    ids=["mixup", "both", "cutmix"],
)
def test_batches_are_mixed_as_often_as_asked_for(numbered, switch_probability, cut, policy):
    augment = {
        **PLAIN,
        "policy": policy,
        "mixup_alpha": 1.0,
        "cutmix_alpha": 1.0,
        "mix_probability": 0.5,
    }
    images, _ = batches(numbered, epochs=100, switch_probability=switch_probability, **augment)
    values = images[..., 0]
    is_cut = (np.ptp(values, axis=(2, 3)) > 1e-3).any(axis=-1)
    is_blended = (np.abs(values - np.round(values)) > 1e-3).any(axis=(1, 2, 3))
    # 300 batches; four deviations of such a share, and some for cuts that cut nothing.
    assert (is_cut | is_blended).mean() == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / 300))
    assert is_cut.mean() == pytest.approx(cut, abs=4 * np.sqrt(0.25 / 300))


def test_evaluation_takes_every_image_once_and_in_order(noise):
    dataset = evaluation_dataset(noise, SIZE, 1.0, batch_size=BATCH)
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    assert [len(batch) for batch in images] == [6, 6, 6, 2]
    expected = [evaluation_image(image, SIZE, 1.0) for image in noise.images]
    np.testing.assert_array_equal(np.concatenate(images), expected)
    np.testing.assert_array_equal(np.concatenate(labels), np.eye(CLASSES)[noise.labels])
    assert images[0].dtype == labels[0].dtype == np.float32


@backend_free
def test_evaluation_smooths_targets_if_asked_to(noise):
    dataset = evaluation_dataset(noise, SIZE, 1.0, batch_size=IMAGES, label_smoothing=0.2)
    (_, targets) = next(dataset.as_numpy_iterator())
    expected = 0.8 * np.eye(CLASSES)[noise.labels] + 0.2 / CLASSES
    np.testing.assert_allclose(targets, expected, atol=1e-6)


@backend_free
def test_evaluation_knows_its_shapes(noise):
    images, labels = evaluation_dataset(noise, SIZE, 0.875).element_spec
    assert images.shape == (None, SIZE, SIZE, 3)
    assert labels.shape == (None, CLASSES)
