from collections.abc import Mapping
from typing import Any

import keras

from keras_convnext.layers.composite import Composite
from keras_convnext.layers.initializers import LAYER_NORM_EPSILON, weight_initializer
from keras_convnext.layers.input_specs import channels_of, image_spec
from keras_convnext.layers.kernel_calls import (
    call_layer_norm,
    call_patch_conv2d,
    kernel_for_layer,
)


@keras.saving.register_keras_serializable(package="keras_convnext")
class Downsampling(Composite):
    """Halves height and width between two stages.

    It is a LayerNorm over the channels, then a 2x2 convolution with stride 2. Source: "A ConvNet
    for the 2020s", section 2.6 ("separate downsampling layers"): without the LayerNorm, training
    diverges. An odd last row or column is ignored, as in the official code.

    Args:
        filters: Number of output channels.
        kernel_regularizer: Regularizer of the kernels of all parts, as in `keras.layers.Dense`.
            Defaults to `None`. The attribute can also be set later.
        parts: Further constructor arguments of the parts, by the name of the part, such as
            `{"norm": {"beta_regularizer": "l2"}}`. Defaults to `None`. The config of the layer
            contains what was set on its parts in this form.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: Tensor of shape `(batch, height, width, channels)`.

    Returns:
        Tensor of shape `(batch, height // 2, width // 2, filters)`.

    Raises:
        ValueError: When called, if the inputs are not images with the number of channels that the
            layer was built for, or have a side below 2 pixels.

    Example:
        >>> y = keras_convnext.layers.Downsampling(192)(x)  # (8, 56, 56, 96) to (8, 28, 28, 192)
    """

    def __init__(
        self,
        filters: int,
        kernel_regularizer: str | dict | keras.regularizers.Regularizer | None = None,
        parts: Mapping[str, Mapping[str, Any]] | None = None,
        **kwargs,
    ) -> None:
        super().__init__(kernel_regularizer, parts, **kwargs)
        self.filters = filters
        self.norm = self._part(
            keras.layers.LayerNormalization,
            "norm",
            epsilon=LAYER_NORM_EPSILON,
            dtype=self.dtype_policy,
        )
        self.conv = self._part(
            keras.layers.Conv2D,
            "conv",
            filters,
            2,
            strides=2,
            data_format="channels_last",
            kernel_initializer=weight_initializer(),
            kernel_regularizer=self.kernel_regularizer,
            dtype=self.dtype_policy,
        )

    def build(self, input_shape):
        self._layer_norm = kernel_for_layer("layer_norm")
        self._patch_conv2d = kernel_for_layer("patch_conv2d")
        self.input_spec = image_spec(channels_of(self, input_shape))
        self.norm.build(input_shape)
        self.conv.build(input_shape)
        self._watch_parts()

    def call(self, inputs, training=False):
        if self._part_watch.finds_something():
            return self.conv(self.norm(inputs))
        x = call_layer_norm(self._layer_norm, self.norm, inputs, training)
        return call_patch_conv2d(self._patch_conv2d, self.conv, x, training)

    def compute_output_shape(self, input_shape):
        return self.conv.compute_output_shape(input_shape)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}
