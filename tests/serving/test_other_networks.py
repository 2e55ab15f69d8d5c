"""Networks of other images than square RGB ones, and of other heads than a softmax, in every form.

Each form is written under the backend that it needs, and one under JAX by another process.
"""

import contextlib
import json
import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_convnext import ConvNeXt, Predictor, export

pytestmark = pytest.mark.tensorflow_first

FORMATS = {
    "tensorflow": {"saved_model": "served/1", "openvino": "model.xml"},
    "torch": {"onnx": "model.onnx"},
    "jax": {"saved_model": "served/1"},
}[keras.backend.backend()]


@contextlib.contextmanager
def watching(directory):
    """Lists, from a thread, the files below a directory whenever they have changed."""
    seen = []
    stop = threading.Event()

    def listing():
        found = {}
        for path in directory.rglob("*"):
            hidden = any(part.startswith(".partial-") for part in path.parts)
            with contextlib.suppress(FileNotFoundError):
                if not hidden and path.is_file():
                    found[str(path.relative_to(directory))] = path.stat().st_size
        return found

    def watch():
        while not stop.is_set():
            with contextlib.suppress(FileNotFoundError):  # a folder that goes while it is listed
                current = listing()
                if not seen or current != seen[-1]:
                    seen.append(current)
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
        seen.append(listing())


def network(shape, head):
    keras.utils.set_random_seed(0)
    backbone = ConvNeXt(
        (1, 1),
        (8, 16),
        kernel_size=3,
        input_shape=shape,
        include_top=False,
        include_preprocessing=False,
        pooling="avg",
        layer_scale_init_value=0.5,
    )
    return keras.Sequential([backbone, head])


def serve(path, images):
    """Returns an export's probabilities for prepared images, and what it says of itself."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        metadata = session.get_modelmeta().custom_metadata_map
        found = session.run(["probabilities"], {"images": images})[0]
        return found, {name: json.loads(value) for name, value in metadata.items()}
    if path.suffix == ".xml":
        import openvino

        model = openvino.Core().read_model(path)
        names = ("class_names", "image_size", "crop_fraction", "channels", "apply_orientation")
        names += ("interpolation", "warp_from", "multi_label")
        metadata = {name: model.get_rt_info(["keras_convnext", name]).value for name in names}
        compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        found = compiled(images)["probabilities"]
        return found, {name: json.loads(value) for name, value in metadata.items()}
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    metadata = (path / "assets.extra/keras_convnext.json").read_text(encoding="utf-8")
    return signature(images=tf.constant(images))["probabilities"].numpy(), json.loads(metadata)


@pytest.fixture(scope="module", params=FORMATS)
def format(request):
    return request.param


@pytest.fixture(scope="module")
def grey(format, tmp_path_factory):
    """A classifier of grey 24x40 images by one logit: predictor, export, what a watcher saw."""
    model = network((24, 40, 1), keras.layers.Dense(1, bias_initializer="ones"))
    predictor = Predictor.of_model(model, ("Kätzchen", "dog"))
    directory = tmp_path_factory.mktemp("grey")
    with watching(directory) as seen:
        path = export(predictor, directory / FORMATS[format], format)
    return predictor, path, seen


def test_a_grey_network_of_one_logit_and_not_square_is_exported(grey):
    predictor, path, _ = grey
    images = np.random.default_rng(0).uniform(0, 255, (3, 24, 40, 1)).astype("float32")
    found, metadata = serve(path, images)
    expected = predictor.classifier.predict_on_batch(images)
    assert expected.std() > 0.01 and expected.shape == (3, 2)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert metadata == {
        "class_names": ["Kätzchen", "dog"],
        "image_size": [24, 40],
        "crop_fraction": 0.875,
        "channels": 1,
        "apply_orientation": True,
        "interpolation": "bicubic",
        "warp_from": 384,
        "multi_label": False,
    }


def test_an_export_has_its_name_only_when_it_is_complete(grey):
    _, path, seen = grey
    named = [files for files in seen if any(name.endswith(path.name) for name in files)]
    if path.is_dir():
        named = [files for files in seen if files]
    assert named and all(files == seen[-1] for files in named)
    assert not list(path.parent.glob(".partial-*"))


def test_files_are_made_grey_and_cut_as_by_the_predictor(grey, write_images, tmp_path):
    """In the SavedModel by its own signature; for engines the predictor's transform does it."""
    predictor, path, _ = grey
    folder = write_images(tmp_path, {"a.jpg": 70, "b.png": 180}, (50, 61))
    files = sorted(folder.iterdir())
    if path.is_dir():
        serve_files = tf.saved_model.load(str(path)).signatures["serve_files"]
        served = serve_files(files=tf.constant([file.read_bytes() for file in files]))
        labels = [[label.decode() for label in row] for row in served["labels"].numpy()]
        scores = served["scores"].numpy()
    else:
        found, _ = serve(path, np.stack([predictor.preprocessor(file) for file in files]))
        labels = [[predictor.class_names[i] for i in np.argsort(-row)] for row in found]
        scores = -np.sort(-found, axis=1)
    expected = predictor.predict(files)
    assert labels == [[one.label for one in best] for best in expected]
    probabilities = [[one.probability for one in best] for best in expected]
    np.testing.assert_allclose(scores, probabilities, atol=1e-5)


def test_a_network_of_four_channels_and_several_labels_is_exported(format, tmp_path):
    head = keras.layers.Dense(3, "sigmoid", kernel_initializer="glorot_uniform")
    predictor = Predictor.of_model(network((16, 24, 4), head), ("sea", "wood", "road"))
    path = export(predictor, tmp_path / FORMATS[format], format)
    array = np.random.default_rng(0).normal(0.5, 2, (30, 50, 4))
    (best,) = predictor.predict(array)
    found, metadata = serve(path, predictor.preprocessor(array)[np.newaxis])
    assert {one.label: pytest.approx(one.probability, abs=1e-5) for one in best} == dict(
        zip(predictor.class_names, found[0].tolist(), strict=True)
    )
    assert abs(found.sum() - 1) > 0.01
    assert (metadata["multi_label"], metadata["channels"]) == (True, 4)
    if path.is_dir():  # whose images cannot be files
        assert list(tf.saved_model.load(str(path)).signatures) == ["serving_default"]


@pytest.mark.backend_free
def test_grey_images_are_pillows(tmp_path):
    predictor = Predictor.of_model(network((24, 40, 1), keras.layers.Dense(2)))
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype="uint8")
    Image.fromarray(pixels).save(tmp_path / "a.png")
    grey = Image.open(tmp_path / "a.png").convert("L")
    for image in (tmp_path / "a.png", pixels, Image.fromarray(pixels)):
        np.testing.assert_array_equal(
            predictor.preprocessor(image), predictor.preprocessor(np.asarray(grey))
        )
