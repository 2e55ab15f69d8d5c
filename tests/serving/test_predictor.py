import keras
import numpy as np
import pytest
from PIL import Image

from keras_convnext import ConvNeXt, Predictor, Preprocessor, imagenet, model_from_weights
from keras_convnext.data.preprocessing import evaluation_image
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


@pytest.mark.backend_free
def test_a_model_for_images_that_are_not_square_is_refused():
    model = ConvNeXt((1,), (8,), input_shape=(24, 32, 3), classes=2)
    with pytest.raises(UserError, match="takes images of 24x32 pixels; only square ones"):
        Predictor.of_model(model)


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
