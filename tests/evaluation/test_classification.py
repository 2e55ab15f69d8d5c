import json

import keras
import numpy as np
import pytest
from sklearn import metrics

from keras_convnext.evaluation.classification import Evaluation, evaluate_classifier

IMAGES, CLASSES = 200, 7
NAMES = tuple("abcdefg")


@pytest.fixture(scope="module")
def evaluation():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, CLASSES, IMAGES)
    chances = generator.random((IMAGES, CLASSES)) + 0.5 * np.eye(CLASSES)[labels]
    return Evaluation(labels, chances / chances.sum(axis=1, keepdims=True), NAMES)


def of(labels, probabilities, names=("a", "b", "c")):
    return Evaluation(np.array(labels), np.array(probabilities, "float64"), names)


@pytest.mark.backend_free
def test_figures_are_scikit_learns(evaluation):
    labels, probabilities = evaluation.labels, evaluation.probabilities
    predictions = evaluation.predictions
    assert evaluation.top(1) == metrics.accuracy_score(labels, predictions)
    for count in range(1, CLASSES):
        expected = metrics.top_k_accuracy_score(labels, probabilities, k=count)
        assert evaluation.top(count) == pytest.approx(expected)
    assert evaluation.top(CLASSES) == 1
    assert evaluation.loss == pytest.approx(metrics.log_loss(labels, probabilities))
    expected = metrics.confusion_matrix(labels, predictions)
    np.testing.assert_array_equal(evaluation.confusion, expected)


@pytest.mark.backend_free
def test_mistakes_are_those_of_most_confidence_first(evaluation):
    mistakes = evaluation.mistakes
    wrong = evaluation.predictions != evaluation.labels
    assert 0 < len(mistakes) < IMAGES
    assert sorted(mistakes) == np.flatnonzero(wrong).tolist()
    confidence = evaluation.probabilities[mistakes].max(axis=1)
    assert (np.diff(confidence) <= 0).all()


@pytest.mark.backend_free
def test_mistakes_of_one_confidence_keep_their_order():
    assert of([1, 2, 1, 2], [[0.8, 0.1, 0.1]] * 4).mistakes.tolist() == [0, 1, 2, 3]


@pytest.mark.backend_free
def test_the_summary_is_ready_for_json(evaluation):
    assert json.loads(json.dumps(evaluation.summary())) == {
        "images": IMAGES,
        "top_1": evaluation.top(1),
        "top_5": evaluation.top(5),
        "loss": evaluation.loss,
        "mistakes": len(evaluation.mistakes),
    }


@pytest.mark.backend_free
def test_with_few_classes_all_are_among_the_first_five():
    evaluation = of([2, 2], [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    assert evaluation.summary()["top_5"] == 1.0
    assert evaluation.mistakes.tolist() == [0]


@pytest.mark.backend_free
def test_a_class_without_images_has_its_row_and_column():
    confusion = of([0, 0], [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]).confusion
    assert confusion.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.backend_free
def test_a_probability_of_zero_costs_much_but_not_everything():
    assert of([0], [[0.0, 1.0, 0.0]]).loss == pytest.approx(-np.log(1e-12))


def test_a_classifier_is_run_over_every_image_in_order():
    import tensorflow as tf

    model = keras.Sequential([keras.Input((3,)), keras.layers.Softmax()])
    inputs = np.random.default_rng(1).normal(size=(10, 3)).astype("float32")
    labels = np.arange(10) % 3
    dataset = tf.data.Dataset.from_tensor_slices((inputs, np.eye(3)[labels])).batch(4)
    evaluation = evaluate_classifier(model, dataset, ("a", "b", "c"))
    exponents = np.exp(inputs.astype("float64"))
    expected = exponents / exponents.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(evaluation.probabilities, expected, rtol=1e-5)
    np.testing.assert_array_equal(evaluation.labels, labels)
    assert evaluation.class_names == ("a", "b", "c")
