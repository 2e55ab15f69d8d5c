"""A row of the table is all that a network needs: what it says is what is built, fed and exported.

A network and a checkpoint are registered whose images are normalized, resized and cropped like no
other's; NumPy, Pillow and timm say what must come out.
"""

import dataclasses
import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_convnext
from keras_convnext import Predictor, Preprocessor, create_model, export
from keras_convnext.catalog.architectures import NETWORKS, Network, get_network
from keras_convnext.catalog.checkpoints import CHECKPOINTS, Checkpoint
from keras_convnext.catalog.preprocessing import OFFICIAL, Preprocessing
from keras_convnext.data.pipeline import training_dataset
from keras_convnext.errors import UserError, WeightsError
from keras_convnext.models import registry
from keras_convnext.training.model import build_model
from keras_convnext.weights import formats

MEAN, STD = (0.1, 0.6, 0.3), (0.5, 0.2, 0.9)
SIZE, CROP = 40, 0.8
PREPROCESSING = Preprocessing(MEAN, STD, "bilinear", CROP, warp_from=None)
NAME = "toynext.odd"
DEPTHS, DIMS = (1, 1, 1, 1), (4, 8, 12, 16)


@pytest.fixture
def reference(monkeypatch, tmp_path):
    """Registers the network and its checkpoint; returns timm's network with the same weights."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = timm.models.convnext.ConvNeXt(depths=DEPTHS, dims=DIMS)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    row = Network("toynext", {"depths": DEPTHS, "dims": DIMS}, image_size=48)
    checkpoint = Checkpoint(
        "toynext", "odd", "toy.pth", 1000, SIZE, None, preprocessing=PREPROCESSING
    )
    monkeypatch.setitem(NETWORKS, "toynext", row)
    monkeypatch.setitem(CHECKPOINTS, NAME, checkpoint)
    monkeypatch.setattr(
        "keras_convnext.weights.weight_file.fetch",
        lambda source: {NAME: tmp_path / "model.safetensors"}.get(str(source), source),
    )
    return network.eval()


def probabilities(network, images):
    """What timm's network gives for images from 0 to 255, normalized by NumPy."""
    import torch

    normalized = (np.asarray(images, "float64") / 255 - MEAN) / STD
    with torch.no_grad():
        logits = network(torch.tensor(normalized.transpose(0, 3, 1, 2), dtype=torch.float32))
    return torch.softmax(logits, -1).numpy()


def by_pillow(image):
    """The image resized and cropped as the row says."""
    width, height = image.size
    short = int(SIZE / CROP)
    size = (short, short * height // width) if width < height else (short * width // height, short)
    resized = image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - SIZE) / 2), round((size[1] - SIZE) / 2)
    return np.asarray(resized.crop((left, top, left + SIZE, top + SIZE)), "float32")


@pytest.fixture(scope="module")
def photograph():
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image("china.jpg")[40:400:3, ::3])


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(0, 255, (3, SIZE, SIZE, 3)).astype("float32")


def assert_equal(actual, expected):
    assert expected.std() > 1e-4
    np.testing.assert_allclose(actual, expected, rtol=2e-3, atol=1e-6)


class TestStatisticsOfTheRow:
    @pytest.mark.parametrize(
        "build",
        [
            lambda: create_model("toynext", weights="odd"),
            lambda: create_model("toynext", weights=NAME),
            lambda: keras_convnext.ConvNeXt(DEPTHS, DIMS, weights=NAME),
            lambda: keras_convnext.model_from_weights(NAME),
            lambda: Predictor.load(NAME).classifier,
        ],
    )
    def test_normalize_the_images_of_the_model(self, build, reference, images):
        model = build()

        assert model.input_shape == (None, SIZE, SIZE, 3)
        assert_equal(model.predict(images, verbose=0), probabilities(reference, images))

    def test_stay_with_a_saved_model_and_with_what_is_built_from_its_file(
        self, reference, images, tmp_path
    ):
        create_model("toynext", weights="odd").save(tmp_path / "a.keras")

        expected = probabilities(reference, images)
        loaded = keras.saving.load_model(tmp_path / "a.keras")
        assert_equal(loaded.predict(images, verbose=0), expected)
        again = keras_convnext.model_from_weights(tmp_path / "a.keras", input_shape=(SIZE, SIZE, 3))
        assert_equal(again.predict(images, verbose=0), expected)

    def test_yield_to_those_of_the_caller(self, reference, images):
        model = create_model("toynext", weights="odd", mean=OFFICIAL.mean, std=OFFICIAL.std)

        moved = ((images / 255 - OFFICIAL.mean) / OFFICIAL.std * STD + MEAN) * 255
        assert_equal(model.predict(images, verbose=0), probabilities(reference, moved))

    def test_are_compared_where_weights_are_loaded_into_another_model(self, reference, caplog):
        other = keras_convnext.ConvNeXt(DEPTHS, DIMS)

        keras_convnext.load_weights(other, NAME)

        (message,) = (r.getMessage() for r in caplog.records if r.name.startswith("keras_convnext"))
        assert "normalizes its images by mean=(0.485, 0.456, 0.406)" in message
        assert f"were trained with mean={MEAN}, std={STD}" in message
        caplog.clear()
        keras_convnext.load_weights(create_model("toynext", mean=MEAN, std=STD), NAME)
        assert not [r for r in caplog.records if r.name.startswith("keras_convnext")]

    def test_of_the_network_serve_without_a_checkpoint(self, reference, monkeypatch):
        row = dataclasses.replace(get_network("toynext"), preprocessing=PREPROCESSING)
        monkeypatch.setitem(NETWORKS, "toynext", row)

        model = create_model("toynext")

        assert model.input_shape == (None, 48, 48, 3)
        layer = model.get_layer("pixel_normalization")
        np.testing.assert_allclose(np.ravel(layer.mean) / 255, MEAN, rtol=1e-6)
        np.testing.assert_allclose(np.sqrt(np.ravel(layer.variance)) / 255, STD, rtol=1e-6)

    def test_are_undone_by_the_noise_that_erases(self, reference, tiny_recipe):
        settings = ["augment.random_erasing=1", "augment.mixup_alpha=0", "augment.cutmix_alpha=0"]
        recipe = tiny_recipe(f"init.weights={NAME}", "data.batch_size=64", *settings)
        split = GreySplit()

        batches = training_dataset(
            split, recipe.data, recipe.augment, 1, 0, preprocessing=recipe.preprocessing
        )

        pixels = np.concatenate(
            [images.reshape(-1, 3) for images, _ in batches.as_numpy_iterator()]
        )
        noise = pixels[(pixels != np.round(pixels)).all(axis=1)]
        normalized = (noise / 255 - MEAN) / STD
        assert len(normalized) > 3000
        np.testing.assert_allclose(normalized.mean(axis=0), 0, atol=0.08)
        np.testing.assert_allclose(normalized.std(axis=0), 1, atol=0.08)

    def test_reach_the_model_of_a_recipe(self, reference, tiny_recipe):
        recipe = tiny_recipe(f"init.weights={NAME}")

        layer = build_model(recipe, 10).get_layer("pixel_normalization")

        np.testing.assert_allclose(np.ravel(layer.mean) / 255, MEAN, rtol=1e-6)


class GreySplit:
    """Sixty-four grey images of two classes."""

    size, class_names = 64, ("a", "b")

    def example(self, index, part=None):
        image = tf.fill((20, 20, 3), tf.constant(128, tf.uint8))
        if part is not None:
            top, left, height, width = tf.unstack(part(20, 20))
            image = image[top : top + height, left : left + width]
        return image, tf.cast(index % 2, tf.int32)


class TestResizingOfTheRow:
    def test_prepares_images_as_pillow_does(self, reference, photograph):
        for image in (photograph, photograph.transpose(Image.Transpose.ROTATE_90)):
            found = Preprocessor.for_weights(NAME)(image)

            assert np.abs(found - by_pillow(image)).max() <= 1
            assert np.abs(Preprocessor(SIZE, CROP)(image) - by_pillow(image)).max() > 3

    def test_is_an_attribute_of_the_preprocessor(self, photograph):
        squashed = Preprocessor(SIZE, interpolation="bilinear", warp_from=SIZE)(photograph)

        expected = np.asarray(photograph.resize((SIZE, SIZE), Image.Resampling.BILINEAR), "float32")
        assert np.abs(squashed - expected).max() <= 1
        always = Preprocessor(400, 1.0, warp_from=None)(photograph)
        assert np.abs(always - Preprocessor(400, 1.0)(photograph)).max() > 50

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"interpolation": "nearest"}, "must be one of bicubic, bilinear. Received: 'nearest'"),
            ({"warp_from": 0}, "`warp_from` must be at least 1 pixel, or None"),
        ],
    )
    def test_is_checked(self, arguments, message):
        with pytest.raises(UserError, match=message):
            Preprocessor(SIZE, **arguments)

    @pytest.mark.tensorflow_first
    def test_is_that_of_a_run_from_these_weights(self, reference, tiny_recipe, tmp_path):
        settings = ["model.depths=[1,1,1,1]", "model.dims=[4,8,12,16]", "model.kernel_size=7"]
        settings += ["data.image_size=32", "schedule.epochs=1", "schedule.warmup_epochs=0"]
        recipe = tiny_recipe(f"init.weights={NAME}", "export.saved_model=false", *settings)

        run, _ = keras_convnext.train(recipe, tmp_path / "run")

        predictor = Predictor.load(run.path)
        preprocessor = predictor.preprocessor
        assert (preprocessor.interpolation, preprocessor.warp_from) == ("bilinear", None)
        layer = predictor.classifier.get_layer("pixel_normalization")
        np.testing.assert_allclose(np.ravel(layer.mean) / 255, MEAN, rtol=1e-6)


@pytest.mark.slow
class TestExportsOfTheRow:
    def test_saved_model(self, reference, images, photograph, tmp_path):
        export(NAME, tmp_path / "served")

        model = tf.saved_model.load(str(tmp_path / "served"))
        found = model.signatures["serving_default"](images=tf.constant(images))["probabilities"]
        assert_equal(found.numpy(), probabilities(reference, images))
        file = io.BytesIO()
        photograph.save(file, "png")
        files = tf.constant([file.getvalue()])
        found = model.signatures["serve_files"](files=files)["probabilities"].numpy()
        prepared = (
            Preprocessor.for_weights(NAME).resized(tf.constant(np.asarray(photograph))).numpy()
        )
        assert np.abs(prepared - by_pillow(photograph)).max() <= 1
        assert_equal(found, probabilities(reference, prepared[np.newaxis]))
        metadata = json.loads((tmp_path / "served/assets.extra/keras_convnext.json").read_text())
        assert (metadata["interpolation"], metadata["warp_from"]) == ("bilinear", None)

    def test_onnx(self, reference, images, tmp_path):
        onnxruntime = pytest.importorskip("onnxruntime")
        export(NAME, tmp_path / "model.onnx", "onnx")

        session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
        (found,) = session.run(["probabilities"], {"images": images})
        assert_equal(found, probabilities(reference, images))

    def test_openvino(self, reference, images, tmp_path):
        openvino = pytest.importorskip("openvino")
        export(NAME, tmp_path / "model.xml", "openvino")

        exact = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.compile_model(tmp_path / "model.xml", "CPU", exact)
        assert_equal(compiled(images)["probabilities"], probabilities(reference, images))


class TestRows:
    def test_every_builder_can_be_found(self):
        assert all(callable(registry._builder(row)) for row in NETWORKS.values())

    def test_formats_are_those_of_weight_files(self):
        known = {format.name for format in formats.FORMATS}
        assert all(set(row.weight_formats) <= known for row in NETWORKS.values())

    def test_settings_are_arguments_of_the_builder(self):
        for row in NETWORKS.values():
            arguments = registry._builder(row).__annotations__
            assert {*row.settings, *row.arguments} <= set(arguments)

    @pytest.mark.parametrize("name", ["convnext_tiny", "convnext_isotropic_small"])
    def test_the_smallest_image_is_the_smallest_that_is_taken(self, name):
        size = get_network(name).smallest_image_size()
        with keras.StatelessScope(initialize_variables=False):
            create_model(name, input_shape=(size, size, 3))
        with pytest.raises(ValueError, match=f"at least {size} pixels"):
            create_model(name, input_shape=(size - 1, size, 3))
        keras.utils.clear_session(free_memory=False)

    def test_resnet_is_a_row(self):
        row = get_network("resnet50")

        assert not row.takes_weights and not row.layer_decay and not row.settings
        assert row.smallest_image_size() == 32
        assert "resnet50" not in keras_convnext.list_models()
        with pytest.raises(WeightsError, match="no weights for resnet50; pass weights=None"):
            create_model("resnet50", weights="imagenet")
