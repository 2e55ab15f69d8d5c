"""The image end of a model: its input tensor, its data format and its normalization."""

import re
from collections.abc import Sequence

import keras
from keras import layers

from keras_convnext.models.numbers import real

NORMALIZATION = "pixel_normalization"  # Keras calls a user's own first one "normalization"
# Names of the layers of a network.
OWN_NAME = re.compile(
    rf"stem|stages_\d+_(downsampling|blocks_\d+)|pool|head_norm|head|{NORMALIZATION}"
)


def check_image(input_tensor, input_shape, smallest_size):
    """Checks the image that a user describes, as far as it is described.

    Args:
        input_tensor: The user's tensor, or `None`.
        input_shape: The user's shape of one image, or `None`.
        smallest_size: Least height and width the network can work with, in pixels.

    Returns:
        The number of channels, or `None` if neither argument is given.

    Raises:
        ValueError: If the shape is not an image's, its size is too small, or both arguments are
            given and disagree.
    """
    shapes = [] if input_shape is None else [input_shape]
    if input_tensor is not None:
        if not keras.utils.is_keras_tensor(input_tensor):
            raise ValueError(
                f"`input_tensor` must be a Keras tensor: a `keras.Input` or another model's "
                f"output. Received: {type(input_tensor).__name__}."
            )
        shapes.append(tuple(input_tensor.shape[1:]))
    for shape in reversed(shapes):
        _check_shape(shape, smallest_size)
    if len(shapes) == 2 and shapes[0] != shapes[1]:
        raise ValueError(
            f"`input_shape` and `input_tensor` disagree; pass only one of them. "
            f"Received: input_shape={input_shape}, an input_tensor of shape {shapes[1]}."
        )
    return shapes[0][0 if _channels_first() else -1] if shapes else None


def image_input(input_tensor, input_shape, default_size, default_channels):
    """Returns the Keras tensor a model starts from.

    Args:
        input_tensor: The user's tensor, or `None`.
        input_shape: The user's shape of one image, or `None`.
        default_size: Height and width if neither is given; `None` takes any.
        default_channels: Channels if neither is given.
    """
    if input_tensor is not None:
        return input_tensor
    if input_shape is None:
        size, channels = (default_size, default_size), (default_channels,)
        input_shape = channels + size if _channels_first() else size + channels
    return layers.Input(shape=input_shape)


def functional_model(image, outputs, name):
    """Returns the model from the graph inputs that `image` depends on to the outputs.

    Raises:
        ValueError: If layers before the image tensor have names of the network's own layers.
    """
    inputs = source_inputs(image)
    try:
        return keras.Model(inputs, outputs, name=name)
    except ValueError as error:
        before = {layer.name for layer in keras.Model(inputs, image).layers}
        taken = sorted(name for name in before if OWN_NAME.fullmatch(name))
        if not taken:
            raise
        raise ValueError(
            f"Two layers of one functional model may not have the same name. Layers before "
            f"`input_tensor` have the names of layers of the network: "
            f"{', '.join(taken[:5])}. Build the network without `input_tensor` and call it on the "
            f"tensor, which makes it one layer with names of its own inside: "
            f"ConvNeXt(..., name='second')(tensor)."
        ) from error


def source_inputs(image):
    """Returns the graph inputs that `image` depends on."""
    inputs = keras.utils.get_source_inputs(image)
    return inputs[0] if len(inputs) == 1 else inputs


def channels_last(image):
    """Returns the image tensor with its channels last, the layout the network computes in."""
    if _channels_first():
        return layers.Permute((2, 3, 1))(image)
    return image


def check_normalization(channels: int, mean: Sequence[float], std: Sequence[float]) -> None:
    """Raises a `ValueError` unless images of this many channels can be normalized like this."""
    if len(mean) != len(std) or min(std, default=0) <= 0:
        raise ValueError(
            f"`mean` and `std` must have one number for each channel, and `std` must be above 0. "
            f"Received: mean={tuple(mean)}, std={tuple(std)}."
        )
    if len(mean) != channels:
        raise ValueError(
            f"`include_preprocessing` normalizes images by the mean and standard deviation of each "
            f"channel, here those of {len(mean)} channels, so it needs {len(mean)} channels. "
            f"Received images of {channels} channels. Pass `mean` and `std` with {channels} "
            f"numbers each, or include_preprocessing=False and normalize the images before the "
            f"model."
        )


def statistics(name: str, values: Sequence[float]) -> tuple[float, ...]:
    """Returns the mean or the standard deviation of each channel as Python's numbers.

    Raises:
        ValueError: If they are not numbers; `name` is the argument's.
    """
    return tuple(real(name, value) for value in values)


def normalize(image, mean: Sequence[float], std: Sequence[float]):
    """Normalizes values from 0 to 255: subtracts the mean and divides by the deviation.

    Args:
        image: Tensor of shape `(batch, height, width, channels)`.
        mean: Mean of each channel, on a scale of 0 to 1.
        std: Standard deviation of each channel, on a scale of 0 to 1.
    """
    # In at least float32, whatever the policy: mixed images hold values between the integers,
    # which half precision would round.
    dtype = keras.backend.result_type(keras.config.floatx(), "float32")
    return layers.Normalization(
        mean=[255 * value for value in mean],
        variance=[(255 * value) ** 2 for value in std],
        dtype=dtype,
        name=NORMALIZATION,
    )(image)


def _channels_first() -> bool:
    return keras.config.image_data_format() == "channels_first"


def _check_shape(shape, smallest_size):
    if len(shape) != 3:
        raise ValueError(
            f"An image's shape must be (height, width, channels), or (channels, height, width) if "
            f"Keras is configured channels first. Received: {shape}."
        )
    channels, size = (shape[0], shape[1:]) if _channels_first() else (shape[-1], shape[:2])
    if channels is None:
        raise ValueError(f"The number of channels must be known. Received the shape {shape}.")
    if any(side is not None and side < smallest_size for side in size):
        raise ValueError(
            f"Images must be at least {smallest_size} pixels high and wide, since the network "
            f"halves them down to one {smallest_size}th. Received the shape {shape}."
        )
