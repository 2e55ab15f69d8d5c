import keras
import pytest

from keras_convnext import ConvNeXt


@pytest.fixture(scope="session")
def classifier():
    """Builds a small classifier of seven classes for images of 16x16 pixels."""

    def build(activation=None):
        keras.utils.set_random_seed(1)
        return ConvNeXt(
            (1, 1),
            (8, 16),
            kernel_size=3,
            input_shape=(16, 16, 3),
            classes=7,
            classifier_activation=activation,
            layer_scale_init_value=0.5,
            head_init_scale=50,  # so that the classes' probabilities differ
        )

    return build
