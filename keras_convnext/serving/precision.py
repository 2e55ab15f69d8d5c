"""A model in float32, whatever it was trained in."""

import keras

from keras_convnext.keras_private import flatten_layers


def in_float32(model: keras.Model) -> keras.Model:
    """Returns a model that computes in float32 with the weights of `model`.

    Engines choose a precision of their own and expect none to be laid down: ONNX Runtime refuses a
    convolution in bfloat16. The layers that compute in float32 already are shared with `model`;
    quantized ones stay as they are.

    Args:
        model: A functional model, and models nested in it.
    """
    return keras.models.clone_model(model, clone_function=_layer_in_float32, recursive=True)


def _layer_in_float32(layer: keras.layers.Layer) -> keras.layers.Layer:
    quantized = any(one.quantization_mode for one in flatten_layers(layer))
    if layer.compute_dtype in (None, "float32", "float64") or quantized:
        return layer
    copy = type(layer).from_config({**layer.get_config(), "dtype": "float32"})
    copy.build_from_config(layer.get_build_config())
    copy.set_weights([weight.astype("float32") for weight in layer.get_weights()])
    return copy
