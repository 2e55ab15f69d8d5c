"""The network that a weight file belongs to, of whatever size it is."""

import os

import keras

from keras_convnext.models.convnext import ConvNeXt
from keras_convnext.weights.fetch import fetch
from keras_convnext.weights.weight_file import StoredWeights


def model_from_weights(source: str | os.PathLike, **kwargs) -> keras.Model:
    """Builds the network that weights belong to, and gives it these weights.

    The weights say how many blocks, channels and classes it has, how large its kernels are and how
    many channels its images have, so that a network trained elsewhere, of any size, needs no
    description.

    Args:
        source: What `keras_convnext.load_weights` takes.
        **kwargs: Arguments of `ConvNeXt` from `include_top` on. By default the network has a
            classifier if the file holds one, and normalises its images if they have three channels.

    Raises:
        WeightsError: If the weights cannot be had or read, or are no ConvNeXt's.

    Example:
        >>> model = keras_convnext.model_from_weights("tuned_with_timm.safetensors")
        >>> backbone = keras_convnext.model_from_weights("hf://owner/name", include_top=False)
    """
    network = StoredWeights(fetch(source)).architecture
    own = {
        "patch_size": network.patch_size,
        "kernel_size": network.kernel_size,
        "stem_norm": network.stem_norm,
        "layer_scale_init_value": 1e-6 if network.layer_scale else None,
        "include_top": network.classes is not None,
        "include_preprocessing": network.channels == 3,
        "name": network.variant,
    }
    return ConvNeXt(network.depths, network.dims, weights=source, **{**own, **kwargs})
