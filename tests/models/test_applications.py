"""Code written for keras.applications gets here what it gets there."""

import inspect
import json

import keras
import numpy as np
import pytest
from keras.src.applications import imagenet_utils

from keras_convnext import decode_predictions, imagenet, preprocess_input

THEIRS = keras.applications.convnext


@pytest.fixture
def scores():
    return np.random.default_rng(0).dirichlet(np.ones(1000), 4).astype("float32")


@pytest.fixture
def index_file(monkeypatch, tmp_path):
    """Puts our synsets and names where keras.applications keeps its downloaded class index."""
    pairs = zip(imagenet.synsets(), imagenet.class_names(), strict=True)
    path = tmp_path / "imagenet_class_index.json"
    path.write_text(json.dumps({str(number): pair for number, pair in enumerate(pairs)}))
    monkeypatch.setattr(imagenet_utils, "CLASS_INDEX", None)
    monkeypatch.setattr(imagenet_utils.file_utils, "get_file", lambda *args, **kwargs: path)


@pytest.mark.parametrize("ours", [preprocess_input, decode_predictions])
def test_parameters_are_theirs(ours):
    found = inspect.signature(ours).parameters.values()
    theirs = inspect.signature(getattr(THEIRS, ours.__name__)).parameters.values()
    assert [(p.name, p.default) for p in found] == [(p.name, p.default) for p in theirs]


def test_images_stay_as_they_are():
    images = np.zeros((2, 8, 8, 3), "uint8")
    assert preprocess_input(images) is images
    assert preprocess_input(images, data_format="channels_first") is images
    assert THEIRS.preprocess_input(images) is images


@pytest.mark.parametrize("top", [1, 5, 1000, 2000])
def test_predictions_are_decoded_as_there(top, scores, index_file):
    assert decode_predictions(scores, top) == THEIRS.decode_predictions(scores, top)
    assert decode_predictions(scores, top=top)[0][0][1] in imagenet.class_names()
    assert len(decode_predictions(scores)[0]) == 5


def test_tensors_are_decoded_too(scores):
    tensor = keras.ops.convert_to_tensor(scores)
    assert decode_predictions(tensor) == decode_predictions(scores)


def test_classes_of_imagenet_22k_are_decoded():
    [[(synset, name, score)]] = decode_predictions(np.eye(21841, dtype="float32")[[7]], top=1)
    assert (synset, name) == (imagenet.synsets(21841)[7], imagenet.class_names(21841)[7])
    assert score == 1


@pytest.mark.parametrize("shape", [(1000,), (2, 10), (1, 2, 1000)])
def test_other_shapes_are_refused_as_there(shape):
    message = r"`decode_predictions` expects a batch of predictions.*shape"
    for decode in (decode_predictions, THEIRS.decode_predictions):
        with pytest.raises(ValueError, match=message):
            decode(np.zeros(shape))


def test_what_has_no_shape_and_a_top_of_0_are_refused(scores):
    with pytest.raises(ValueError, match="expects a batch of predictions.*Received: list"):
        decode_predictions([[0.5, 0.5]])
    with pytest.raises(ValueError, match="`top` must be at least 1. Received: top=0"):
        decode_predictions(scores, top=0)
