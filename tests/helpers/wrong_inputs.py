"""Gives layers, kernels and a network what they cannot take; prints what came of each.

It runs in a process of its own: given wrong shapes, a native operation may end the process.
"""

import contextlib

import keras
import numpy as np

from keras_convnext import ConvNeXt, kernels
from keras_convnext.kernels.select import fastest
from keras_convnext.layers import Block, DepthwiseConv2D, Downsampling, LayerScale, Stem

CHANNELS = 6
SHAPES = [(2, 9, 9, 7), (2, 9, 9, 1), (6,), (9, 9, 6), (1, 2, 9, 9, 6), (2, 9, 9, 0)]
EMPTY = [(2, 0, 9, CHANNELS), (2, 9, 0, CHANNELS)]


def ones(*shape, dtype="float32"):
    return keras.ops.ones(shape, dtype)


def attempt(kind, name, function, *arguments, **named):
    """Calls a function and prints the kind of the error, if any."""
    try:
        function(*arguments, **named)
    except Exception as error:
        kind_of_error = type(error).__name__
        sentence = str(error).replace("\n", " ")
        print(f"{kind}|{name}|{kind_of_error}|{sentence}", flush=True)
    else:
        print(f"{kind}|{name}|nothing|", flush=True)


def built(layer):
    layer.build((None, 9, 9, CHANNELS))
    return layer


def try_layers():
    layers = [Block(3), Stem(4), Downsampling(4), DepthwiseConv2D(5), LayerScale()]
    for layer in map(built, layers):
        for shape in SHAPES:
            if isinstance(layer, LayerScale) and shape[-1] == CHANNELS:
                continue  # it takes any rank
            attempt("refused", f"{layer.name}{shape}", layer, ones(*shape))
        for shape in EMPTY:
            attempt("any", f"{layer.name}{shape}", layer, ones(*shape))


def try_kernels():
    inputs, kernel, bias = ones(2, 9, 9, 6), ones(3, 3, 6, 1), ones(6)
    wrong = [(ones(3, 3, 5, 1), bias), (ones(3, 3, 1, 1), bias), (kernel, ones(1))]
    wrong += [(kernel, ones(12)), (kernel, ones(1, 6)), (ones(2, 2, 6, 1), bias)]
    wrong += [(ones(3, 3, 6), None), (ones(3, 3, 6, 2), None), (ones(0, 0, 6, 1), None)]
    for weights in wrong:
        attempt("refused", "depthwise", kernels.depthwise_conv2d, inputs, *weights)
        with contextlib.suppress(Exception):  # past the checks; it may broadcast, but not crash
            kernels.fastest_depthwise_conv2d(3)(inputs, *weights)
    attempt("any", "int32", kernels.depthwise_conv2d, inputs, ones(3, 3, 6, 1, dtype="int32"))
    attempt("any", "float16", kernels.depthwise_conv2d, inputs, kernel, ones(6, dtype="float16"))


def try_norm_mlp():
    good = [ones(*shape) for shape in [(6,), (6,), (6, 8), (8,), (8, 6), (6,), (6,)]]
    kernel = fastest("norm_mlp", None)
    for position, shape in [(1, (7,)), (2, (6, 5)), (2, (6,)), (3, (1,)), (3, (9,)), (5, (1,))]:
        weights = list(good)
        weights[position] = ones(*shape)
        with contextlib.suppress(Exception):
            kernel(ones(2, 9, 9, 6), *weights, 1e-6, True)
    for position in (2, 3):
        weights = list(good)
        weights[position] = keras.ops.cast(weights[position], "int32")
        with contextlib.suppress(Exception):
            kernel(ones(2, 9, 9, 6), *weights, 1e-6)
    print("any|norm_mlp|survived|", flush=True)


def try_layers_of_kernels():
    norm = keras.layers.LayerNormalization()
    first, second = keras.layers.Dense(8), keras.layers.Dense(6)
    conv = keras.layers.Conv2D(4, 2, 2, data_format="channels_last")
    dense_to_5 = keras.layers.Dense(5)
    for layer in (norm, first, conv):
        layer.build((None, 9, 9, 6))
    for layer in (second, dense_to_5):
        layer.build((None, 9, 9, 8))
    for channels in (1, 7):
        x = ones(2, 9, 9, channels)
        attempt("refused", "layer_norm", kernels.layer_norm, norm, x)
        attempt("refused", "patch_conv2d", kernels.patch_conv2d, conv, x)
        attempt("refused", "norm_mlp", kernels.norm_mlp, norm, first, second, None, x)
    x = ones(2, 9, 9, 6)
    attempt("refused", "norm_mlp", kernels.norm_mlp, norm, first, dense_to_5, None, x)
    attempt("refused", "norm_mlp", kernels.norm_mlp, norm, second, first, None, x)
    attempt("refused", "patch_conv2d", kernels.patch_conv2d, conv, ones(2, 9, 6))


def try_networks():
    for channels, other in [(5, 1), (1, 3)]:
        network = ConvNeXt(
            (1,), (4,), include_preprocessing=False, input_shape=(16, 16, channels), classes=2
        )
        images = np.ones((2, 16, 16, other), "float32")
        attempt("refused", f"network of {channels}", network, images)
        attempt("refused", f"network of {channels}", network.predict_on_batch, images)


for step in (try_layers, try_kernels, try_norm_mlp, try_layers_of_kernels, try_networks):
    step()
print("alive", flush=True)
