"""The network as inference engines take it: in float32, with constants folded into weights.

Layer scale and the pixel normalization multiply by constants, next to a dense layer and a
convolution whose weights can absorb them. Training needs them apart. ONNX Runtime and OpenVINO
would read and write memory once more for each. Engines choose a precision themselves and expect
float32: ONNX Runtime rejects a convolution in bfloat16.
"""

import keras
import numpy as np
from keras import ops

from keras_convnext.keras_private import flatten_layers
from keras_convnext.layers import Block, Stem

INPUT = "images"


def inference_graph(network: keras.Model) -> keras.Model:
    """Returns a network in float32 with folded constants, for inference only.

    Its results equal those of `network` up to rounding. It shares the layers that stay unchanged.

    Args:
        network: A functional model; models nested in it are converted too.
    """
    return fold(to_float32(network))


def to_float32(model: keras.Model) -> keras.Model:
    """Returns a model that computes in float32 with the weights of `model`.

    Layers that compute in float32 already are shared; quantized layers stay unchanged.
    """

    def replacement(layer):
        quantized = any(one.quantization_mode for one in flatten_layers(layer))
        if layer.compute_dtype in (None, "float32", "float64") or quantized:
            return layer
        copy = _copy(layer, dtype="float32")
        copy.set_weights([weight.astype("float32") for weight in layer.get_weights()])
        return copy

    return _with_replaced_layers(model, replacement)


def fold(model: keras.Model) -> keras.Model:
    """Returns a model whose layer scales and pixel normalization are folded into other weights.

    Quantized blocks stay unchanged. So does the normalization if the stem computes in half
    precision, in which raw pixels would lose accuracy.
    """
    normalizations = {
        id(stem): normalization
        for stem in flatten_layers(model)
        if isinstance(stem, Stem) and (normalization := _normalization_of(stem)) is not None
    }
    folded = {id(normalization) for normalization in normalizations.values()}

    def replacement(layer):
        if isinstance(layer, Block):
            return _without_layer_scale(layer)
        if id(layer) in normalizations:
            return _for_raw_pixels(layer, normalizations[id(layer)])
        if id(layer) in folded:
            return keras.layers.Identity(dtype=layer.dtype_policy, name=layer.name)
        return layer

    return _with_replaced_layers(model, replacement)


def _with_replaced_layers(model, replacement):
    return keras.models.clone_model(model, clone_function=replacement, recursive=True)


def _copy(layer: keras.layers.Layer, **changes) -> keras.layers.Layer:
    """Returns a built layer with the config of `layer`, changed, and with new weights."""
    copy = type(layer).from_config({**layer.get_config(), **changes})
    copy.build_from_config(layer.get_build_config())
    return copy


def _without_layer_scale(block: Block) -> Block:
    if block.layer_scale is None or block.pointwise_conv_2.quantization_mode:
        return block
    result = _copy(block, layer_scale_init_value=None)
    for part in ("depthwise_conv", "norm", "pointwise_conv_1"):
        getattr(result, part).set_weights(getattr(block, part).get_weights())
    gamma = ops.convert_to_numpy(block.layer_scale.gamma)
    scaled = [weight * gamma for weight in block.pointwise_conv_2.get_weights()]
    result.pointwise_conv_2.set_weights(scaled)
    return result


def _normalization_of(stem: Stem) -> keras.layers.Normalization | None:
    """Returns the layer that normalizes the channels of this stem's images and of nothing else."""
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
    result = _copy(stem)
    result.conv.set_weights([kernel.astype("float32"), bias.astype("float32")])
    if stem.norm is not None:
        result.norm.set_weights(stem.norm.get_weights())
    return result
