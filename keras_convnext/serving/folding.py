"""The same classifier in fewer operations, for engines that only predict.

Layer scale and the normalisation of the pixels multiply by constants, beside a dense layer and a
convolution whose weights can take these over. Training needs them apart; ONNX Runtime and OpenVINO
would go through memory once more for each.
"""

import keras
import numpy as np
from keras import ops

from keras_convnext.keras_private import flatten_layers
from keras_convnext.layers import Block, Stem


def folded(model: keras.Model) -> keras.Model:
    """Returns a model with the results of `model` up to rounding, for prediction only.

    It shares with `model` the layers that stay as they are. Quantized blocks are left, and so is
    the normalisation where the stem computes in half precision: raw pixels would lose by that.

    Args:
        model: A functional model, and models nested in it.
    """
    normalizations = {
        id(stem): normalization
        for stem in flatten_layers(model)
        if isinstance(stem, Stem) and (normalization := _normalization_of(stem)) is not None
    }
    folded_away = {id(normalization) for normalization in normalizations.values()}

    def replacement(layer):
        if isinstance(layer, Block):
            return _without_layer_scale(layer)
        if id(layer) in normalizations:
            return _for_raw_pixels(layer, normalizations[id(layer)])
        if id(layer) in folded_away:
            return keras.layers.Identity(dtype=layer.dtype_policy, name=layer.name)
        return layer

    return keras.models.clone_model(model, clone_function=replacement, recursive=True)


def _without_layer_scale(block: Block) -> Block:
    if block.layer_scale is None or block.pointwise_conv_2.quantization_mode:
        return block
    result = _copy(block, block.depthwise_conv.kernel.shape[2], layer_scale_init_value=None)
    for part in ("depthwise_conv", "norm", "pointwise_conv_1"):
        getattr(result, part).set_weights(getattr(block, part).get_weights())
    gamma = ops.convert_to_numpy(block.layer_scale.gamma)
    scaled = [weight * gamma for weight in block.pointwise_conv_2.get_weights()]
    result.pointwise_conv_2.set_weights(scaled)
    return result


def _normalization_of(stem: Stem) -> keras.layers.Normalization | None:
    """Returns what normalises the channels of this stem's images, and of nothing else."""
    if len(stem._inbound_nodes) != 1:  # it is part of another layer, or has several inputs
        return None
    (node,) = stem._inbound_nodes
    layer = node.input_tensors[0]._keras_history.operation
    if (
        isinstance(layer, keras.layers.Normalization)
        and layer.axis in ((-1,), (3,))
        and not layer.invert
        and layer._outbound_nodes == [node]
        and stem.compute_dtype == "float32"
    ):
        return layer
    return None


def _for_raw_pixels(stem: Stem, normalization: keras.layers.Normalization) -> Stem:
    kernel, bias = (weight.astype("float64") for weight in stem.conv.get_weights())
    mean, variance = (
        ops.convert_to_numpy(value).astype("float64").ravel()
        for value in (normalization.mean, normalization.variance)
    )
    kernel /= np.sqrt(variance)[:, np.newaxis]
    bias -= np.einsum("hwio,i->o", kernel, mean)
    result = _copy(stem, mean.size)
    result.conv.set_weights([kernel.astype("float32"), bias.astype("float32")])
    if stem.norm is not None:
        result.norm.set_weights(stem.norm.get_weights())
    return result


def _copy(layer: keras.layers.Layer, channels: int, **changes) -> keras.layers.Layer:
    """Returns a layer of the same kind with weights of its own, not yet those of `layer`."""
    copy = type(layer).from_config({**layer.get_config(), **changes})
    copy.build((None, None, None, channels))
    return copy
