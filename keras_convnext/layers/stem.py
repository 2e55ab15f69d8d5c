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
class Stem(Composite):
    """Splits the image into square patches and maps each to a normalized vector.

    It is a convolution whose kernel and stride are the patch size, then a LayerNorm over the
    channels. Source: "A ConvNet for the 2020s", section 2.2 ("patchify") and 2.6 (the LayerNorm).
    Rows and columns that do not fill a patch are ignored, as in the official code.

    Args:
        filters: Number of output channels.
        patch_size: Side of a patch in pixels. Defaults to 4.
        use_norm: Whether there is a LayerNorm; the isotropic networks (section 3.3) have none.
            Defaults to `True`.
        kernel_regularizer: Regularizer of the kernels of all parts, as in `keras.layers.Dense`.
            Defaults to `None`. The attribute can also be set later.
        parts: Further constructor arguments of the parts, by the name of the part, such as
            `{"conv": {"bias_regularizer": "l2"}}`. Defaults to `None`. The config of the layer
            contains what was set on its parts in this form.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: Tensor of shape `(batch, height, width, channels)`.

    Returns:
        Tensor of shape `(batch, height // patch_size, width // patch_size, filters)`.

    Raises:
        ValueError: When called, if the inputs are not images with the number of channels that the
            layer was built for, or are smaller than a patch.

    Example:
        >>> y = keras_convnext.layers.Stem(96)(images)  # (8, 224, 224, 3) to (8, 56, 56, 96)
    """

    def __init__(
        self,
        filters: int,
        patch_size: int = 4,
        use_norm: bool = True,
        kernel_regularizer: str | dict | keras.regularizers.Regularizer | None = None,
        parts: Mapping[str, Mapping[str, Any]] | None = None,
        **kwargs,
    ) -> None:
        super().__init__(kernel_regularizer, parts, **kwargs)
        self.filters = filters
        self.patch_size = patch_size
        self.use_norm = use_norm
        self.conv = self._part(
            keras.layers.Conv2D,
            "conv",
            filters,
            patch_size,
            strides=patch_size,
            data_format="channels_last",
            kernel_initializer=weight_initializer(),
            kernel_regularizer=self.kernel_regularizer,
            dtype=self.dtype_policy,
        )
        self.norm = None
        if use_norm:
            self.norm = self._part(
                keras.layers.LayerNormalization,
                "norm",
                epsilon=LAYER_NORM_EPSILON,
                dtype=self.dtype_policy,
            )

    def build(self, input_shape):
        self._patch_conv2d = kernel_for_layer("patch_conv2d")
        self._layer_norm = kernel_for_layer("layer_norm")
        self.input_spec = image_spec(channels_of(self, input_shape))
        self.conv.build(input_shape)
        if self.norm is not None:
            self.norm.build(self.conv.compute_output_shape(input_shape))
        self._watch_parts()

    def call(self, inputs, training=False):
        if self._part_watch.finds_something():
            x = self.conv(inputs)
            return x if self.norm is None else self.norm(x)
        x = call_patch_conv2d(self._patch_conv2d, self.conv, inputs, training)
        if self.norm is None:
            return x
        return call_layer_norm(self._layer_norm, self.norm, x, training)

    def compute_output_shape(self, input_shape):
        return self.conv.compute_output_shape(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "patch_size": self.patch_size,
            "use_norm": self.use_norm,
        }
