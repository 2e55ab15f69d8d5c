"""The features of an image: what a classifier's last layer tells the classes apart by."""

import keras

from keras_convnext.errors import UserError
from keras_convnext.keras_private import tensors_of


def feature_model(classifier: keras.Model) -> keras.Model:
    """Returns the model from images to the input of the classifier's last dense layer.

    For ConvNeXt these are the pooled and normalized feature maps, `(batch, channels)`.

    Args:
        classifier: A functional or sequential classifier.

    Raises:
        UserError: If it has no dense layer at its end.
    """
    layer = next((one for one in reversed(classifier.layers) if one.weights), None)
    if not isinstance(layer, keras.layers.Dense):
        raise UserError(
            f"{classifier.name!r} has no features: the last layer that has weights must be a Dense "
            f"layer, whose inputs are the features."
        )
    features, _ = tensors_of(layer, classifier)
    return keras.Model(classifier.inputs[0], features, name=f"{classifier.name}_features")
