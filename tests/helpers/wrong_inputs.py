"""Calls layers, kernels and a network with wrong inputs, and prints what each call did.

It runs in a process of its own, since a native operation may end the process for wrong shapes.
"""

import contextlib

import keras
import numpy as np

from keras_convnext import ConvNeXt
from keras_convnext.kernels.reference import BlockParams
from keras_convnext.kernels.select import select
from keras_convnext.kernels.shapes import checked
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
    convolve = select("depthwise_conv2d", kernel_size=3)
    convolve_checked = checked("depthwise_conv2d", convolve)
    for weights in wrong:
        attempt("refused", "depthwise", convolve_checked, inputs, *weights)
        with contextlib.suppress(Exception):  # unchecked, it may broadcast, but not crash
            convolve(inputs, *weights)
    attempt("any", "int32", convolve_checked, inputs, ones(3, 3, 6, 1, dtype="int32"))
    attempt("any", "float16", convolve_checked, inputs, kernel, ones(6, dtype="float16"))


def try_norm_mlp():
    good = [ones(*shape) for shape in [(6,), (6,), (6, 8), (8,), (8, 6), (6,), (6,)]]
    kernel = select("norm_mlp")
    for position, shape in [(1, (7,)), (2, (6, 5)), (2, (6,)), (3, (1,)), (3, (9,)), (5, (1,))]:
        weights = list(good)
        weights[position] = ones(*shape)
        with contextlib.suppress(Exception):
            kernel(ones(2, 9, 9, 6), BlockParams(*weights), 1e-6, True)
    for position in (2, 3):
        weights = list(good)
        weights[position] = keras.ops.cast(weights[position], "int32")
        with contextlib.suppress(Exception):
            kernel(ones(2, 9, 9, 6), BlockParams(*weights), 1e-6)
    print("any|norm_mlp|survived|", flush=True)


def try_checked_kernels():
    layer_norm, patch_conv2d, norm_mlp = (
        checked(operation, select(operation))
        for operation in ("layer_norm", "patch_conv2d", "norm_mlp")
    )
    vector, patches = ones(6), (ones(2, 2, 6, 4), ones(4))
    dense = [ones(*shape) for shape in [(6, 8), (8,), (8, 6), (6,)]]
    params = BlockParams(vector, vector, *dense)
    for channels in (1, 7):
        x = ones(2, 9, 9, channels)
        attempt("refused", "layer_norm", layer_norm, x, vector, vector, 1e-3)
        attempt("refused", "patch_conv2d", patch_conv2d, x, *patches)
        attempt("refused", "norm_mlp", norm_mlp, x, params, 1e-3)
    x = ones(2, 9, 9, 6)
    to_5 = params._replace(kernel_2=ones(8, 5), bias_2=ones(5))
    swapped = BlockParams(vector, vector, *dense[2:], *dense[:2])
    attempt("refused", "norm_mlp", norm_mlp, x, to_5, 1e-3)
    attempt("refused", "norm_mlp", norm_mlp, x, swapped, 1e-3)
    attempt("refused", "patch_conv2d", patch_conv2d, ones(2, 9, 6), *patches)


def try_networks():
    for channels, other in [(5, 1), (1, 3)]:
        network = ConvNeXt(
            (1,), (4,), include_preprocessing=False, input_shape=(16, 16, channels), classes=2
        )
        images = np.ones((2, 16, 16, other), "float32")
        attempt("refused", f"network of {channels}", network, images)
        attempt("refused", f"network of {channels}", network.predict_on_batch, images)


for step in (try_layers, try_kernels, try_norm_mlp, try_checked_kernels, try_networks):
    step()
print("alive", flush=True)
