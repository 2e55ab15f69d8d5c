"""ResNet-50, which the paper compares with, as `keras.applications` has it."""

from collections.abc import Sequence

import keras

from keras_convnext.catalog.preprocessing import OFFICIAL
from keras_convnext.models.inputs import check_normalization, normalize


def ResNet50(
    input_shape: tuple[int | None, int | None, int] = (224, 224, 3),
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "resnet50",
    mean: Sequence[float] = OFFICIAL.mean,
    std: Sequence[float] = OFFICIAL.std,
) -> keras.Model:
    """Builds ResNet-50 with random weights, from images with values from 0 to 255.

    Source: "Deep Residual Learning for Image Recognition", table 1.

    Args:
        input_shape: Shape of one image.
        classes: Classes of the classifier.
        classifier_activation: Activation of the classifier; `None` gives logits.
        name: Name of the model.
        mean: Mean of each channel that the model subtracts, on a scale of 0 to 1.
        std: Standard deviation of each channel that it divides by.

    Returns:
        A `keras.Model` from `(batch, height, width, 3)` to `(batch, classes)`.

    Raises:
        ValueError: If `mean` and `std` do not fit the images.
    """
    image = keras.Input(input_shape, name="image")
    check_normalization(image.shape[-1], mean, std)
    backbone = keras.applications.ResNet50(
        weights=None,
        input_tensor=normalize(image, mean, std),
        classes=classes,
        classifier_activation=classifier_activation,
    )
    return keras.Model(image, backbone.output, name=name)
