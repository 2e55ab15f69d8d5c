"""Two functions of `keras.applications` that code written for it calls beside the model."""

from typing import Any

import keras

from keras_convnext.catalog import imagenet


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Returns the images unchanged, as `keras.applications.convnext.preprocess_input` does.

    The models normalize their images themselves, unless they are built with
    `include_preprocessing=False`.

    Args:
        x: Array or tensor of images, `(batch, height, width, channels)`, values from 0 to 255.
        data_format: Has no effect.

    Returns:
        `x` itself.

    Example:
        >>> model.predict(keras_convnext.preprocess_input(images))
    """
    return x


def decode_predictions(preds: Any, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """Returns the most probable classes of ImageNet for each image, most probable first.

    The names of the classes come with this package, so nothing is downloaded. They are those of
    `keras_convnext.imagenet.class_names`, such as `"great white shark"`, where
    `keras.applications` has `"great_white_shark"`.

    Args:
        preds: Array or tensor of shape `(batch, 1000)`, or `(batch, 21841)` from a classifier of
            ImageNet-22K.
        top: How many classes to return for each image. Defaults to 5; all if there are fewer.

    Returns:
        A list for each image, of tuples `(synset, name, score)`.

    Raises:
        ValueError: If `preds` has another shape, or `top` is less than 1.

    Example:
        >>> keras_convnext.decode_predictions(model.predict(images), top=1)
        [[('n02123045', 'tabby', 0.61)]]
    """
    shape = tuple(getattr(preds, "shape", ()))
    if len(shape) != 2 or shape[1] not in imagenet.FILES:
        raise ValueError(
            f"`decode_predictions` expects a batch of predictions, an array of shape (batch, 1000) "
            f"for ImageNet-1K or (batch, 21841) for ImageNet-22K. Received: "
            f"{f'an array of shape {shape}' if shape else type(preds).__name__}."
        )
    if top < 1:
        raise ValueError(f"`top` must be at least 1. Received: top={top}.")
    synsets, names = imagenet.synsets(shape[1]), imagenet.class_names(shape[1])
    scores = keras.ops.convert_to_numpy(preds)
    # The order of keras.applications, which reverses an ascending sort.
    order = scores.argsort(axis=1)[:, ::-1][:, :top]
    return [
        [(synsets[i], names[i], row[i]) for i in classes]
        for row, classes in zip(scores, order, strict=True)
    ]
