"""One function per operation behind one signature; the `keras.ops` version is the truth."""

from keras_convnext.kernels.depthwise_conv2d import depthwise_conv2d as depthwise_conv2d
from keras_convnext.kernels.depthwise_conv2d import (
    fastest_depthwise_conv2d as fastest_depthwise_conv2d,
)
from keras_convnext.kernels.draws import repeatable_draws as repeatable_draws
from keras_convnext.kernels.layer_norm import fastest_layer_norm as fastest_layer_norm
from keras_convnext.kernels.layer_norm import layer_norm as layer_norm
from keras_convnext.kernels.norm_mlp import fastest_norm_mlp as fastest_norm_mlp
from keras_convnext.kernels.norm_mlp import norm_mlp as norm_mlp
from keras_convnext.kernels.patch_conv2d import fastest_patch_conv2d as fastest_patch_conv2d
from keras_convnext.kernels.patch_conv2d import patch_conv2d as patch_conv2d
