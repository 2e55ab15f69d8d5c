import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.utils.class_weight import compute_class_weight

from keras_convnext.data.class_weights import (
    balanced_weights,
    count_labels,
    describe_weights,
    with_image_weights,
)
from keras_convnext.data.pipeline import training_dataset
from keras_convnext.data.sources.folder import image_folder
from keras_convnext.data.sources.split import ArraySplit
from keras_convnext.data.transforms.mixup_cutmix import mix, smooth
from keras_convnext.errors import DataError
from keras_convnext.recipe import Augment, Data

NAMES = ("a", "b", "c")
LABELS = np.array([0, 2, 2, 1, 2, 2, 0, 2, 2, 2], "int32")


@pytest.fixture
def split():
    return ArraySplit(np.zeros((len(LABELS), 4, 4, 3), "uint8"), LABELS, NAMES)


@pytest.mark.backend_free
def test_weights_are_scikit_learns(split):
    weights = balanced_weights(split)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert weights[LABELS].mean() == pytest.approx(1)
    assert describe_weights(weights, NAMES) == "from 0.476 (c) to 3.33 (b)"


@pytest.mark.backend_free
def test_a_folders_labels_are_counted_by_its_index(tmp_path, write_images, monkeypatch):
    names = {f"{name}/{n}.png": 40 for name, count in (("b", 3), ("d", 2)) for n in range(count)}
    write_images(tmp_path / "train", names)
    for bad in ("b/bad.png", "d/0bad.png", "d/1bad.png"):
        (tmp_path / "train" / bad).write_text("no image")
    found = image_folder(tmp_path / "train", "skip", ("d", "a", "b"))
    monkeypatch.setattr(type(found), "example", None)  # no image is decoded
    assert count_labels(found).tolist() == [2, 0, 3]
    with pytest.raises(DataError, match="classes without training images: a. Add images, or set"):
        balanced_weights(found)


@pytest.mark.backend_free
def test_other_labels_are_counted_without_decoding_images():
    class Records:
        """Images that cannot be decoded, by number."""

        size, class_names = len(LABELS), NAMES

        def example(self, index, box=None):
            return tf.io.decode_png(tf.constant("no image")), tf.gather(LABELS, index)

    assert count_labels(Records()).tolist() == [2, 1, 7]


SMOOTHING = 0.2
WEIGHTS = np.array([0.5, 4.0, 1.0], "float32")


@pytest.mark.backend_free
@pytest.mark.parametrize("smoothing", [0.0, SMOOTHING])
def test_an_image_counts_as_its_class_and_a_mixture_as_its_shares(smoothing):
    one_hot = tf.one_hot([0, 1, 2, 1], 3)
    images = tf.zeros((4, 8, 8, 3))

    def weights_of(targets):
        batches = tf.data.Dataset.from_tensors((images, targets))
        ((_, same_targets, weights),) = with_image_weights(batches, WEIGHTS, smoothing)
        np.testing.assert_array_equal(same_targets, targets)
        return weights

    np.testing.assert_allclose(weights_of(smooth(one_hot, smoothing)), [0.5, 4, 1, 4], rtol=1e-5)
    settings = Augment(cutmix_alpha=0.0, mixup_alpha=0.8)
    _, mixed = mix(images, smooth(one_hot, smoothing), settings, tf.constant([0, 1]))
    _, shares = mix(images, one_hot, settings, tf.constant([0, 1]))
    assert 0.01 < shares[0, 0] < 0.99
    np.testing.assert_allclose(weights_of(mixed), np.asarray(shares) @ WEIGHTS, rtol=1e-5)


@pytest.mark.backend_free
@pytest.mark.parametrize("policy", ["paper", "keras_cv"])
def test_batches_of_either_policy_are_weighted(split, policy):
    data = Data(source="digits", image_size=8, batch_size=10)
    augment = Augment(policy=policy, rand_augment=None, label_smoothing=0.3, cutmix_alpha=0.0)
    batches = training_dataset(split, data, augment, epochs=3, seed=0)
    smoothing = augment.smoothing_in_targets
    steps = 0
    for images, targets, weights in with_image_weights(batches, WEIGHTS, smoothing):
        shares = (targets.numpy() - smoothing / 3) / (1 - smoothing)
        assert shares.min() > -1e-6 and np.sort(shares, axis=1)[:, 1].max() > 0.01  # mixed
        np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(weights, shares @ WEIGHTS, rtol=1e-4)
        assert images.shape == (10, 8, 8, 3)
        steps += 1
    assert steps == 3


def test_training_is_what_it_is_with_kerass_class_weight(split):
    """An update on weighted batches is that of `model.fit(class_weight=...)`."""
    inputs = np.random.default_rng(0).normal(size=(len(LABELS), 5)).astype("float32")
    one_hot = np.eye(3, dtype="float32")[LABELS]
    weights = balanced_weights(split)
    models = []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
        model.compile(keras.optimizers.SGD(0.5), loss)
        models.append(model)
    ours, theirs = models
    batches = tf.data.Dataset.from_tensor_slices((inputs, one_hot)).batch(5)
    options = {"shuffle": False, "verbose": 0}
    history = ours.fit(with_image_weights(batches, weights), epochs=2, **options).history
    expected = theirs.fit(
        inputs, one_hot, 5, epochs=2, class_weight=dict(enumerate(weights)), **options
    ).history
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
