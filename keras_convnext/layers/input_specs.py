"""Input specs of layers that take images, which Keras checks before every call."""

import keras


def image_spec(channels: int | None = None) -> keras.InputSpec:
    """Returns the spec of tensors of shape `(batch, height, width, channels)`.

    Args:
        channels: Number of channels, or `None` for any, as before a layer is built.
    """
    return keras.InputSpec(ndim=4, axes={} if channels is None else {-1: channels})


def channels_of(layer: keras.layers.Layer, input_shape) -> int:
    """Returns the number of channels in the shape that a layer is built for.

    Raises:
        ValueError: If the number is unknown.
    """
    if input_shape[-1] is None:
        raise ValueError(
            f"The layer {layer.name!r} must know the number of channels, the last axis of its "
            f"inputs. Received: inputs of shape {tuple(input_shape)}."
        )
    return input_shape[-1]
