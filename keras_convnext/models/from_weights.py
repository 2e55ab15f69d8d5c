"""Builds the network that a weight file belongs to, of any size."""

import os
from typing import Any

import keras

from keras_convnext.catalog.checkpoints import resolve
from keras_convnext.models.convnext import ConvNeXt, check_options
from keras_convnext.weights.weight_file import WeightFile, open_weights


def model_from_weights(source: str | os.PathLike | WeightFile, **kwargs: Any) -> keras.Model:
    """Builds the network that weights belong to and loads them.

    The number of blocks, channels and classes, the size of the kernels and the channels of the
    images follow from the weights, so a network trained elsewhere, of any size, needs no
    description.

    Args:
        source: Anything `keras_convnext.load_weights` takes.
        **kwargs: Arguments of `ConvNeXt` from `include_top` on. By default the network has a
            classifier if the file holds one, and normalizes its images if they have three channels
            or `mean` and `std` are given.

    Raises:
        ValueError: If an argument does not fit; it is checked before anything is downloaded.
        WeightsError: If the weights cannot be fetched or read, or are not a ConvNeXt's.

    Example:
        >>> model = keras_convnext.model_from_weights("tuned_with_timm.safetensors")
        >>> backbone = keras_convnext.model_from_weights("hf://owner/name", include_top=False)
    """
    channels = check_options(**kwargs)
    weight_file = open_weights(resolve(source))
    network = weight_file.architecture
    own = {
        "patch_size": network.patch_size,
        "kernel_size": network.kernel_size,
        "stem_norm": network.stem_norm,
        "layer_scale_init_value": 1e-6 if network.layer_scale else None,
        "include_top": network.classes is not None,
        "include_preprocessing": (channels or network.channels) == 3
        or kwargs.get("mean") is not None,
        "name": network.variant,
    }
    return ConvNeXt(network.depths, network.dims, **{**own, **kwargs, "weights": weight_file})
