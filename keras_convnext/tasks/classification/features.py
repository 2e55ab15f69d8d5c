"""The features of an image: what a classifier's last layer tells the classes apart by."""

import keras

from keras_convnext.errors import UserError


def feature_model(classifier: keras.Model) -> keras.Model:
    """Returns the model from images to the input of the classifier's last dense layer.

    For ConvNeXt these are the pooled and normalized feature maps, `(batch, channels)`.

    Args:
        classifier: A functional or sequential classifier.

    Raises:
        UserError: If it has no dense layer at its end.
    """
    features = _features(classifier)
    if features is None:
        raise UserError(
            f"{classifier.name!r} has no features: it must end in a Dense layer, whose inputs are "
            f"the features."
        )
    return keras.Model(classifier.inputs[0], features, name=f"{classifier.name}_features")


def _features(model: keras.Model):
    """Returns the input of the last dense layer, as a tensor of the model's own graph."""
    for layer in reversed(model.layers):
        if isinstance(layer, keras.layers.Dense):
            return layer.input
        if isinstance(layer, keras.Model):
            inner = _features(layer)
            return None if inner is None else keras.Model(layer.inputs[0], inner)(layer.input)
    return None
