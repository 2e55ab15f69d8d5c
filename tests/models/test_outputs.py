"""What makes probabilities of what a classifier gives."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_convnext.errors import UserError
from keras_convnext.models import is_multi_label, with_probabilities

INPUTS = np.random.default_rng(0).normal(0, 1, (6, 4)).astype("float32")


def classifier(*tail, **input_arguments):
    inputs = keras.Input((4,), **input_arguments)
    outputs = inputs
    for layer in tail:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs, name="mine")


@pytest.mark.parametrize("tail", ["logit", "sigmoid", "Activation", "half precision"])
def test_one_output_tells_two_classes_apart(tail):
    dtype = "mixed_bfloat16" if tail == "half precision" else "float32"
    dense = layers.Dense(1, "sigmoid" if tail == "sigmoid" else None, dtype=dtype)
    model = classifier(dense, *([layers.Activation("sigmoid")] if tail == "Activation" else []))
    result = with_probabilities(model, binary=True)
    found = np.asarray(result.predict_on_batch(INPUTS), "float32")
    second = 1 / (1 + np.exp(-(INPUTS @ np.asarray(dense.kernel) + np.asarray(dense.bias))))
    tolerance = 0.02 if tail == "half precision" else 1e-5
    np.testing.assert_allclose(found, np.hstack([1 - second, second]), atol=tolerance)
    assert not is_multi_label(result)


def test_a_sigmoid_of_several_outputs_has_independent_labels():
    model = classifier(layers.Dense(3, "sigmoid"))
    result = with_probabilities(model)
    assert is_multi_label(result)
    np.testing.assert_array_equal(result.predict_on_batch(INPUTS), model.predict_on_batch(INPUTS))


@pytest.mark.backend_free
def test_the_activation_is_found_before_what_changes_nothing():
    """As where mixed precision casts probabilities by a last Activation('linear')."""
    passing = [layers.Activation("linear"), layers.Dropout(0.5), layers.Identity()]
    softmax = classifier(layers.Dense(3, "softmax"), *passing)
    np.testing.assert_array_equal(
        with_probabilities(softmax).predict_on_batch(INPUTS), softmax.predict_on_batch(INPUTS)
    )
    logits = with_probabilities(classifier(layers.Dense(3), *passing)).predict_on_batch(INPUTS)
    np.testing.assert_allclose(logits.sum(axis=1), 1, rtol=1e-5)
    assert is_multi_label(with_probabilities(classifier(layers.Dense(3, "sigmoid"), *passing)))


@pytest.mark.backend_free
@pytest.mark.parametrize("kind", ["nested", "sequential", "lists", "a dict"])
def test_the_last_layer_is_found_in_any_model(kind):
    inner = classifier(layers.Dense(3, "sigmoid", name="probabilities"))
    inputs = keras.Input((4,), name="x")
    model = {
        "nested": lambda: keras.Model(inputs, inner(inputs)),
        "sequential": lambda: keras.Sequential([keras.Input((4,)), inner]),
        "lists": lambda: keras.Model([inputs], [inner(inputs)]),
        "a dict": lambda: keras.Model({"x": inputs}, inner(inputs)),
    }[kind]()
    result = with_probabilities(model)
    assert is_multi_label(result)
    np.testing.assert_allclose(
        result.predict_on_batch(INPUTS), inner.predict_on_batch(INPUTS), rtol=1e-6
    )


@pytest.mark.backend_free
@pytest.mark.parametrize("outputs", [1, 3])
def test_names_of_layers_may_be_taken(outputs):
    names = ("probabilities", "probabilities_1", "first_class", "second_class")
    tail = [layers.Dense(2, name=name) for name in names]
    model = classifier(*tail, layers.Dense(outputs, name="rescaling"))
    result = with_probabilities(model, binary=True).predict_on_batch(INPUTS)
    np.testing.assert_allclose(result.sum(axis=1), 1, rtol=1e-5)


def own(x):
    return x


own.__name__ = "softmax"


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("tail", "sentence"),
    [
        ([layers.Dense(1)], "may be a logit or the value of a regression"),
        (
            [layers.Dense(1), layers.Activation("linear")],
            "may be a logit or the value of a regress",
        ),
        ([layers.Dense(1, "softmax")], "a softmax over a single output, which is 1.0 for every"),
        ([layers.Dense(1), layers.Softmax()], "a softmax over a single output"),
        ([layers.Dense(1, "relu")], "a Dense layer with the activation 'relu'"),
        ([layers.Dense(3, "log_softmax")], "with the activation 'log_softmax'"),
        ([layers.Dense(3, own)], "with the activation 'softmax'"),
        ([layers.Dense(3), layers.Softmax(axis=0)], "softmax over axis 0"),
        ([layers.Dense(3), layers.LayerNormalization()], "a LayerNormalization layer"),
        ([layers.Dense(4), layers.Reshape((2, 2))], r"must have the shape \(batch, classes\)"),
    ],
)
def test_what_is_no_classifier_is_refused(tail, sentence):
    with pytest.raises(UserError, match=f"'mine' .*{sentence}|'mine' gives.*{sentence}"):
        with_probabilities(classifier(*tail))


@pytest.mark.backend_free
def test_what_gives_several_things_or_cannot_be_looked_into_is_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    inputs = keras.Input((4,))
    with pytest.raises(UserError, match="one output. Received: 2 outputs"):
        with_probabilities(keras.Model(inputs, [inputs, inputs]))
    for model in (Own(), keras.Sequential([layers.Dense(3)])):
        with pytest.raises(UserError, match="must be a functional or sequential model"):
            with_probabilities(model)
