"""What a classifier gives: logits while it trains, probabilities when it is used."""

import keras

from keras_convnext.errors import UserError


def with_probabilities(model: keras.Model) -> keras.Model:
    """Returns a model that gives probabilities, with the layers and weights of `model`.

    Args:
        model: A functional classifier with one output, `(batch, classes)`: either logits, from a
            last layer without activation, or probabilities already, from softmax or sigmoid.

    Raises:
        UserError: If it cannot be told which of the two the model gives.

    Example:
        >>> classifier = with_probabilities(ConvNeXtTiny(classifier_activation=None))
    """
    last = model.outputs[0]._keras_history.operation
    activation = getattr(last, "activation", None)
    if isinstance(last, keras.layers.Softmax):
        return model
    if activation in (keras.activations.softmax, keras.activations.sigmoid):
        return model
    if activation is keras.activations.linear:
        softmax = keras.layers.Softmax(dtype=last.compute_dtype, name="probabilities")
        return keras.Model(model.input, softmax(model.output), name=model.name)
    raise UserError(
        f"It cannot be told whether {model.name!r} gives logits or probabilities. Its last layer "
        f"must be a Dense layer or an activation: linear for logits, softmax or sigmoid for "
        f"probabilities. Received: {last.name!r}, a {type(last).__name__} layer."
    )
