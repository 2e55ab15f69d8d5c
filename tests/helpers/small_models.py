"""Networks small enough to be trained in a test."""

import keras

import keras_convnext


def trainable(small, **arguments):
    """Returns a compiled classifier of 16x16 images."""
    model = keras_convnext.ConvNeXt(
        **small,
        classes=3,
        classifier_activation=None,
        input_shape=(16, 16, 3),
        **{"drop_path_rate": 0.5, **arguments},
    )
    model.compile(
        keras_convnext.optimizers.AdamW(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model
