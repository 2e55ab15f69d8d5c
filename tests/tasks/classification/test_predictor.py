import json

import keras
import numpy as np
import pytest
from PIL import Image

from keras_convnext import ConvNeXt, Predictor, Preprocessor, imagenet, model_from_weights
from keras_convnext.data.transforms.resize_crop import evaluation_image
from keras_convnext.errors import DataError, RunError, UserError

SIZE, NAMES = 16, ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")


@pytest.fixture(scope="module")
def model(classifier):
    return classifier()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, write_images):
    """A JPEG, a PNG and a BMP, of three sizes."""
    root = tmp_path_factory.mktemp("pictures")
    for name, size in (("a.jpg", (20, 30)), ("b.png", (40, 18)), ("c.bmp", (16, 16))):
        write_images(root, {name: 40 * ord(name[0]) % 256}, size)
    return sorted(root.iterdir())


def test_files_and_arrays_are_ranked_as_the_model_ranks_them(model, pictures):
    predictor = Predictor.of_model(model, NAMES)
    arrays = [np.asarray(Image.open(path).convert("RGB")) for path in pictures]
    prepared = np.stack([evaluation_image(array, SIZE, 0.875) for array in arrays])
    logits = model.predict_on_batch(prepared)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    for images in (pictures, [str(path) for path in pictures], arrays):
        for best, row in zip(predictor.predict(images, top=7), expected, strict=True):
            order = np.argsort(-row)
            assert [prediction.label for prediction in best] == [NAMES[i] for i in order]
            found = [prediction.probability for prediction in best]
            np.testing.assert_allclose(found, row[order], rtol=1e-4)


@pytest.mark.backend_free
@pytest.mark.parametrize(("top", "given"), [(1, 1), (5, 5), (9, 7)])
def test_no_more_classes_are_given_than_there_are(model, pictures, top, given):
    assert len(Predictor.of_model(model).predict(pictures[:1], top)[0]) == given


@pytest.mark.backend_free
def test_no_images_have_no_predictions(model):
    assert Predictor.of_model(model).predict([]) == []


@pytest.mark.backend_free
def test_classes_without_names_are_called_by_their_numbers(model):
    assert Predictor.of_model(model).class_names == tuple("0123456")


@pytest.mark.backend_free
def test_as_many_names_as_classes_are_needed(model):
    with pytest.raises(ValueError, match="Received 2 names for 7 classes"):
        Predictor.of_model(model, ("cat", "dog"))


@pytest.mark.backend_free
def test_a_model_for_any_size_needs_one():
    model = ConvNeXt((1,), (8,), input_shape=(None, None, 3), classes=2)
    with pytest.raises(ValueError, match="image_size=.*in pixels"):
        Predictor.of_model(model)
    predictor = Predictor.of_model(model, image_size=24, crop_fraction=1.0)
    assert predictor.preprocessor == Preprocessor(24, 1.0)
    assert len(predictor.predict([np.zeros((50, 40, 3), "uint8")])[0]) == 2


def pooled(shape, *tail):
    """A small network that is no ConvNeXt, which takes 1 ms."""
    inputs = keras.Input(shape)
    outputs = keras.layers.GlobalAveragePooling2D()(inputs)
    for layer in tail:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs, name="pooled")


@pytest.mark.backend_free
def test_an_image_reaches_a_size_that_is_not_square():
    predictor = Predictor.of_model(pooled((24, 40, 3), keras.layers.Dense(2)))
    assert predictor.preprocessor == Preprocessor((24, 40))
    assert len(predictor.predict(np.zeros((50, 40, 3), "uint8"))[0]) == 2
    half = pooled((None, 40, 3), keras.layers.Dense(2))
    assert Predictor.of_model(half, image_size=(24, 40)).preprocessor == Preprocessor((24, 40))


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("shape", "image_size", "sentence"),
    [
        ((None, 40, 3), None, "takes images of any size"),
        ((None, 40, 3), 24, "takes images of anyx40 pixels.*Received: image_size=24"),
        ((16, 16, 3), 20, "takes images of 16x16 pixels.*Received: image_size=20"),
        ((None, None, 3), (1, 2, 3), r"positive whole number of pixels, or two of them"),
        ((None, None, 3), 24.5, "positive whole number of pixels"),
        ((3, 16, 16), None, "takes images with their channels first"),
        ((5, 16, 16, 3), None, r"must take images, one input of shape \(batch, height, width"),
        ((16, 16, None), None, r"must take images, one input of shape"),
    ],
)
def test_a_model_whose_images_are_of_another_shape_is_refused(shape, image_size, sentence):
    inputs = keras.Input(shape)
    flat = keras.layers.Lambda(lambda x: x[:, :2, 0, 0] if len(shape) == 3 else x[:, :2, 0, 0, 0])
    outputs = keras.layers.Activation("softmax")(keras.layers.Reshape((2,))(flat(inputs)))
    with pytest.raises(UserError, match=sentence):
        Predictor.of_model(keras.Model(inputs, outputs), image_size=image_size)


def test_a_single_logit_is_the_second_class(pictures):
    model = pooled((16, 16, 3), keras.layers.Rescaling(1 / 50, -2.5), keras.layers.Dense(1))
    predictor = Predictor.of_model(model, ("cat", "dog"))
    prepared = np.stack([predictor.preprocessor(path) for path in pictures])
    dog = 1 / (1 + np.exp(-model.predict_on_batch(prepared)[:, 0]))
    assert dog.std() > 0.01
    for best, probability in zip(predictor.predict(pictures), dog, strict=True):
        found = {one.label: one.probability for one in best}
        assert found == pytest.approx({"dog": probability, "cat": 1 - probability}, abs=1e-5)
        assert best[0].probability >= 0.5
    assert not predictor.multi_label
    assert json.loads(predictor.metadata()["multi_label"]) is False


@pytest.mark.backend_free
def test_a_single_output_needs_both_names():
    sigmoid = pooled((16, 16, 3), keras.layers.Dense(1, "sigmoid"))
    assert Predictor.of_model(sigmoid).class_names == ("0", "1")
    with pytest.raises(UserError, match=r"Received 1 names for 2 classes \(a single output tells"):
        Predictor.of_model(sigmoid, ("dog",))
    for names in (None, ("price",), ("a", "b", "c")):
        with pytest.raises(UserError, match="may be a logit or the value of a regression"):
            Predictor.of_model(pooled((16, 16, 3), keras.layers.Dense(1)), names)


def test_labels_of_a_sigmoid_have_their_own_probabilities(pictures):
    tail = keras.layers.Rescaling(1 / 50, -2.5), keras.layers.Dense(4, "sigmoid")
    model = pooled((16, 16, 3), *tail)
    predictor = Predictor.of_model(model, ("sea", "sun", "sky", "sand"))
    prepared = np.stack([predictor.preprocessor(path) for path in pictures])
    for best, row in zip(
        predictor.predict(pictures, top=3), model.predict_on_batch(prepared), strict=True
    ):
        order = np.argsort(-row)[:3]
        assert [one.label for one in best] == [predictor.class_names[i] for i in order]
        np.testing.assert_allclose([one.probability for one in best], row[order], rtol=1e-5)
    assert predictor.multi_label
    assert json.loads(predictor.metadata()["multi_label"]) is True


@pytest.mark.backend_free
@pytest.mark.parametrize("channels", [2, 200])
def test_networks_of_other_channels_take_arrays(channels):
    model = pooled((16, 16, channels), keras.layers.Dense(2, "softmax"))
    predictor = Predictor.of_model(model)
    array = np.random.default_rng(0).normal(0, 1e-2, (16, 16, channels))
    expected = model.predict_on_batch(Preprocessor(16, 0.875, channels)(array)[np.newaxis])
    found = {one.label: one.probability for one in predictor.predict(array)[0]}
    np.testing.assert_allclose([found["0"], found["1"]], expected[0], rtol=1e-5)
    with pytest.raises(UserError, match=f"of {channels} channels, and image files can be turned"):
        predictor.predict("a.jpg")


@pytest.mark.backend_free
def test_one_image_has_a_list_of_its_own(model, pictures):
    predictor = Predictor.of_model(model, NAMES)
    pixels = np.asarray(Image.open(pictures[1]))
    expected = predictor.predict([pictures[1]])
    for one in (
        pictures[1],
        str(pictures[1]),
        pictures[1].read_bytes(),
        pixels,
        pixels[np.newaxis],
    ):
        assert predictor.predict(one) == expected
    assert predictor.predict(Image.open(pictures[1])) == expected


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"images": None}, "Images must be one image, a list of images, or.*Received: NoneType"),
        ({"images": [3]}, "An image must be a file's path.*Received: int"),
        ({"images": [], "top": 0}, "`top` must be at least 1. Received: 0"),
        ({"images": [], "on_bad_image": "ignore"}, "must be one of error, skip. Rec.*'ignore'"),
    ],
)
def test_what_cannot_be_predicted_is_refused(model, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        Predictor.of_model(model).predict(**arguments)


@pytest.mark.backend_free
def test_bad_files_can_be_skipped_and_are_counted(model, pictures, tmp_path, caplog):
    (tmp_path / "page.jpg").write_text("<html>")
    predictor = Predictor.of_model(model, NAMES)
    images = [tmp_path / "page.jpg", *pictures[:2], tmp_path / "none.png", pictures[2]]
    found = predictor.predict(images, on_bad_image="skip")
    first, second, third = predictor.predict(pictures)
    assert found == [[], first, second, [], third]
    ours = [record for record in caplog.records if record.name.startswith("keras_convnext")]
    (message,) = [record.getMessage() for record in ours]
    assert message.startswith("Left out 2 images of 5: ")
    assert "page.jpg cannot be read as an image" in message and "no file" in message
    assert predictor.predict(images[0], on_bad_image="skip") == [[]]
    # What is wrong with the call and not with a file is no reason to skip.
    with pytest.raises(UserError, match="Received an image of shape"):
        predictor.predict([np.zeros((4, 4, 7), "uint8")], on_bad_image="skip")


@pytest.mark.backend_free
def test_images_are_read_two_batches_ahead_of_the_network(monkeypatch):
    predictor = Predictor.of_model(pooled((16, 16, 3), keras.layers.Dense(2)))
    read, read_before = [], []

    def images():
        for number in range(200):
            read.append(number)
            yield np.full((16, 16, 3), number, "uint8")

    predict = predictor.classifier.predict_on_batch
    monkeypatch.setattr(
        predictor.classifier,
        "predict_on_batch",
        lambda batch: read_before.append(len(read)) or predict(batch),
    )
    assert len(predictor.predict(images())) == 200
    assert read_before == [95, 127, 159, 191, 200, 200, 200]


@pytest.mark.backend_free
def test_a_model_that_ends_in_neither_logits_nor_probabilities_is_refused():
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D()])
    with pytest.raises(ValueError, match="cannot be told whether .* logits or probabilities"):
        Predictor.of_model(model)


def test_a_keras_file_is_loaded_whatever_it_was_compiled_with(model, pictures, tmp_path):
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    clone.compile("adam", loss="categorical_crossentropy")
    clone.save(tmp_path / "model.keras")
    loaded = Predictor.load(tmp_path / "model.keras")
    assert not loaded.classifier.compiled
    found, expected = (
        predictor.predict(pictures) for predictor in (loaded, Predictor.of_model(model))
    )
    assert [best[0].label for best in found] == [best[0].label for best in expected]
    np.testing.assert_allclose(
        [best[0].probability for best in found],
        [best[0].probability for best in expected],
        rtol=1e-5,
    )


@pytest.mark.backend_free
@pytest.mark.parametrize("name", ["nowhere", "nowhere.keras", "text.txt", "folder.keras"])
def test_what_is_neither_run_nor_model_is_refused(tmp_path, name):
    (tmp_path / "text.txt").write_text("no model")
    (tmp_path / "folder.keras").mkdir()
    with pytest.raises(RunError, match=f"{name} is neither the directory of a run, nor a .keras"):
        Predictor.load(tmp_path / name)


@pytest.mark.backend_free
def test_a_keras_file_that_holds_no_model_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "model.keras").write_text("no model")
    with pytest.raises(UserError, match="model.keras"):
        Predictor.load(tmp_path / "model.keras")


@pytest.mark.backend_free
@pytest.mark.parametrize("kind", ["any size", "no classifier"])
def test_a_model_that_cannot_be_used_is_refused_in_a_sentence(tmp_path, kind):
    # Through a file the user cannot pass `image_size`; the command line prints UserErrors alone.
    if kind == "any size":
        model = ConvNeXt((1,), (8,), input_shape=(None, None, 3), classes=2)
    else:
        model = ConvNeXt((1,), (8,), include_top=False, input_shape=(16, 16, 3))
    model.save(tmp_path / "model.keras")
    with pytest.raises(UserError):
        Predictor.load(tmp_path / "model.keras")


@pytest.mark.backend_free
def test_a_run_that_did_not_end_an_epoch_is_refused(tmp_path, tiny_recipe):
    (tmp_path / "recipe.yaml").write_text(tiny_recipe().to_yaml())
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(RunError, match="last.keras once its first epoch has ended"):
        Predictor.load(tmp_path)


@pytest.mark.backend_free
def test_other_checkpoints_are_refused(tmp_path):
    with pytest.raises(UserError, match="last.*best.*Received: 'worst'"):
        Predictor.load(tmp_path, "worst")


@pytest.mark.backend_free
def test_files_that_cannot_be_read_are_named(model, tmp_path):
    predictor = Predictor.of_model(model)
    (tmp_path / "page.jpg").write_text("<html>")
    for path, message in [
        (tmp_path / "nowhere.jpg", r"There is no file .*nowhere\.jpg"),
        (tmp_path / "page.jpg", r"page\.jpg cannot be read as an image. Images may be JPEG"),
        (tmp_path, "cannot be read as an image"),
    ]:
        with pytest.raises(DataError, match=message):
            predictor.predict([path])


def test_a_published_checkpoint_brings_its_names_and_its_transform(published, pictures):
    predictor = Predictor.load(published)
    assert predictor.preprocessor == Preprocessor(224, 0.875)
    assert predictor.class_names == imagenet.class_names(1000)

    images = np.stack([predictor.preprocessor(path) for path in pictures])
    expected = model_from_weights(published).predict(images, verbose=0)
    for best, row in zip(predictor.predict(pictures, top=5), expected, strict=True):
        order = np.argsort(-row)[:5]
        assert [prediction.label for prediction in best] == [
            imagenet.class_names()[i] for i in order
        ]
        found = [prediction.probability for prediction in best]
        np.testing.assert_allclose(found, row[order], rtol=1e-4)


@pytest.mark.backend_free
def test_a_wrong_name_leads_to_the_right_one():
    with pytest.raises(RunError, match=r"nor the name of.* Did you mean 'convnext_tiny.fb_in1k'"):
        Predictor.load("convnex_tiny.fb_in1k")
