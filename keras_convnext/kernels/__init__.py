"""One function per operation behind one signature; the `keras.ops` version is the truth."""

from keras_convnext.kernels.dense import dense as dense
from keras_convnext.kernels.depthwise_conv2d import depthwise_conv2d as depthwise_conv2d
from keras_convnext.kernels.depthwise_conv2d import (
    fastest_depthwise_conv2d as fastest_depthwise_conv2d,
)
