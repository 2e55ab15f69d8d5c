"""The Keras layers of a ConvNeXt, each usable in a model of your own."""

from keras_convnext.layers.block import Block as Block
from keras_convnext.layers.depthwise_conv2d import DepthwiseConv2D as DepthwiseConv2D
from keras_convnext.layers.downsampling import Downsampling as Downsampling
from keras_convnext.layers.layer_scale import LayerScale as LayerScale
from keras_convnext.layers.stem import Stem as Stem
from keras_convnext.layers.stochastic_depth import StochasticDepth as StochasticDepth
