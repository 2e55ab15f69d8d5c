"""What layers ask of the images they are given, checked by Keras before a layer runs."""

import keras


def image_spec(channels: int | None = None) -> keras.InputSpec:
    """Returns the spec of tensors of shape `(batch, height, width, channels)`.

    Args:
        channels: Their number; `None` before the layer is built, which fixes it.
    """
    return keras.InputSpec(ndim=4, axes={} if channels is None else {-1: channels})


def channels_of(layer: keras.layers.Layer, input_shape) -> int:
    """Returns the number of channels that a layer is built for.

    Raises:
        ValueError: If it is not known.
    """
    if input_shape[-1] is None:
        raise ValueError(
            f"The layer {layer.name!r} must know the number of channels, the last axis of its "
            f"inputs. Received: inputs of shape {tuple(input_shape)}."
        )
    return input_shape[-1]
