"""The feature maps of every stage, for detection and segmentation networks."""

import re

import keras

from keras_convnext.layers import Stem
from keras_convnext.models.convnext import features_out

BLOCK_NAME = re.compile(r"stages_(\d+)_blocks_(\d+)")


def feature_pyramid(model: keras.Model) -> keras.Model:
    """Returns a model that outputs the feature map of every stage.

    It shares its layers and weights with `model`. The maps are the stages' outputs without a norm;
    the paper's dense networks add a LayerNorm to each (appendix A.3).

    Args:
        model: A model of this package, with or without its top.

    Returns:
        A `keras.Model` from the same images to a dict. For the networks of the paper its keys are
        `"P2"`, `"P3"`, `"P4"` and `"P5"`, and level `Pn` has stride 2**n: with the `dims` of the
        network, `P2` has the shape `(batch, height // 4, width // 4, dims[0])`.

    Raises:
        ValueError: If `model` holds no ConvNeXt, or its strides are not powers of 2.

    Example:
        >>> backbone = keras_convnext.ConvNeXtTiny(include_top=False)
        >>> maps = keras_convnext.feature_pyramid(backbone)(images)
        >>> maps["P5"].shape  # images: (1, 640, 640, 3)
        (1, 20, 20, 768)
    """
    last_blocks = {}
    stride = None
    for layer in model.layers:
        if isinstance(layer, Stem):
            stride = layer.patch_size
        elif match := BLOCK_NAME.fullmatch(layer.name):
            last_blocks[int(match[1])] = layer
    if stride is None or not last_blocks:
        raise ValueError(
            f"`feature_pyramid` takes a model made by keras_convnext, such as "
            f"ConvNeXtTiny(include_top=False). Received {model.name!r}, which has no layers "
            f"'stem' and 'stages_0_blocks_0'; of a model built around one, pass the inner one."
        )
    if stride & (stride - 1):
        raise ValueError(
            f"The levels of a feature pyramid are powers of 2, so the stem's patch size must be "
            f"one. Received a model with patch_size={stride}."
        )
    first_level = stride.bit_length() - 1
    maps = {
        f"P{first_level + stage}": features_out(last_blocks[stage].output)
        for stage in sorted(last_blocks)
    }
    return keras.Model(model.input, maps, name=f"{model.name}_feature_pyramid")
