"""The image end of a model: its input tensor, its data format and its normalisation."""

import re

import keras
from keras import layers

from keras_convnext.catalog import imagenet

# Names of the layers of a network.
OWN_NAME = re.compile(
    r"stem|stages_\d+_(downsampling|blocks_\d+)|pool|head_norm|head|pixel_normalization"
)


def image_input(input_tensor, input_shape, default_size, default_channels, smallest_size):
    """Returns the Keras tensor a model starts from.

    Args:
        input_tensor: The user's tensor, or `None`.
        input_shape: The user's shape of one image, or `None`.
        default_size: Height and width where neither is given; `None` takes any.
        default_channels: Channels where neither is given.
        smallest_size: Least height and width the network can work with, in pixels.

    Raises:
        ValueError: If the shape is no image's, its size is too small, or both arguments are given
            and disagree.
    """
    channels_first = keras.config.image_data_format() == "channels_first"
    if input_shape is None and input_tensor is None:
        size = (default_size, default_size)
        channels = (default_channels,)
        input_shape = channels + size if channels_first else size + channels
    if input_tensor is None:
        tensor = layers.Input(shape=_checked(input_shape, smallest_size, channels_first))
    else:
        tensor = _keras_tensor(input_tensor)
        shape = _checked(tuple(tensor.shape[1:]), smallest_size, channels_first)
        if input_shape is not None and input_shape != shape:
            raise ValueError(
                f"`input_shape` and `input_tensor` disagree; pass only one of them. "
                f"Received: input_shape={input_shape}, an input_tensor of shape {shape}."
            )
    return tensor


def functional_model(image, outputs, name):
    """Returns the model from the inputs that an image tensor comes from to the outputs.

    Raises:
        ValueError: If layers that the image tensor comes from have names of the network's.
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
            f"Two layers of one functional model may not have the same name. Layers that "
            f"`input_tensor` comes from are called as layers of the network are: "
            f"{', '.join(taken[:5])}. Build the network without `input_tensor` and call it on the "
            f"tensor, which makes it one layer with names of its own inside: "
            f"ConvNeXt(..., name='second')(tensor)."
        ) from error


def source_inputs(image):
    """Returns what a model from `image` on takes: the inputs of the model `image` comes from."""
    inputs = keras.utils.get_source_inputs(image)
    return inputs[0] if len(inputs) == 1 else inputs


def channels_last(image):
    """Returns the image tensor with its channels last, as the network works inside."""
    if keras.config.image_data_format() == "channels_first":
        return layers.Permute((2, 3, 1))(image)
    return image


def normalize(image):
    """Normalises raw RGB values from 0 to 255 by ImageNet's mean and deviation.

    Args:
        image: Tensor of shape `(batch, height, width, 3)`.

    Raises:
        ValueError: If the images do not have three channels.
    """
    if image.shape[-1] != 3:
        raise ValueError(
            f"`include_preprocessing` normalises RGB images and needs 3 channels. Received images "
            f"of {image.shape[-1]} channels. Pass include_preprocessing=False and normalise them "
            f"before the model."
        )
    # In at least float32, whatever the policy: mixed images hold values between the integers,
    # which half precision would round.
    dtype = keras.backend.result_type(keras.config.floatx(), "float32")
    return layers.Normalization(
        mean=[255 * mean for mean in imagenet.MEAN],
        variance=[(255 * std) ** 2 for std in imagenet.STD],
        dtype=dtype,
        name="pixel_normalization",  # Keras calls a user's first one "normalization"
    )(image)


def _keras_tensor(tensor):
    if not keras.utils.is_keras_tensor(tensor):
        raise ValueError(
            f"`input_tensor` must be a Keras tensor: a `keras.Input` or another model's output. "
            f"Received: {type(tensor).__name__}."
        )
    return tensor


def _checked(shape, smallest_size, channels_first):
    shape = tuple(shape)
    if len(shape) != 3:
        raise ValueError(
            f"An image's shape must be (height, width, channels), or (channels, height, width) "
            f"where Keras is configured channels first. Received: {shape}."
        )
    channels = shape[0] if channels_first else shape[-1]
    size = shape[1:] if channels_first else shape[:2]
    if channels is None:
        raise ValueError(f"The number of channels must be known. Received the shape {shape}.")
    if any(side is not None and side < smallest_size for side in size):
        raise ValueError(
            f"Images must be at least {smallest_size} pixels high and wide, since the network "
            f"halves them down to one {smallest_size}th. Received the shape {shape}."
        )
    return shape
