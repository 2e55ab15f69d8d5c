import keras

from keras_convnext import kernels
from keras_convnext.layers.initializers import LAYER_NORM_EPSILON, weight_initializer


@keras.saving.register_keras_serializable(package="keras_convnext")
class Downsampling(keras.layers.Layer):
    """Halves height and width between two stages.

    A LayerNorm over the channels, then a 2x2 convolution of stride 2. Source: "A ConvNet for the
    2020s", section 2.6 ("separate downsampling layers"): without the LayerNorm training diverges.
    An odd last row or column is left out, as in the official code.

    Args:
        filters: Channels of the result.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: Tensor of shape `(batch, height, width, channels)`.

    Returns:
        Tensor of shape `(batch, height // 2, width // 2, filters)`.

    Example:
        >>> y = keras_convnext.layers.Downsampling(192)(x)  # (8, 56, 56, 96) to (8, 28, 28, 192)
    """

    def __init__(self, filters: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.norm = keras.layers.LayerNormalization(
            epsilon=LAYER_NORM_EPSILON, dtype=self.dtype_policy, name="norm"
        )
        self.conv = keras.layers.Conv2D(
            filters,
            2,
            strides=2,
            data_format="channels_last",
            kernel_initializer=weight_initializer(),
            dtype=self.dtype_policy,
            name="conv",
        )

    def build(self, input_shape):
        self._layer_norm_kernel = kernels.fastest_layer_norm()
        self._patch_conv2d_kernel = kernels.fastest_patch_conv2d()
        self.norm.build(input_shape)
        self.conv.build(input_shape)

    def call(self, inputs, training=False):
        x = kernels.layer_norm(self.norm, inputs, training, self._layer_norm_kernel)
        return kernels.patch_conv2d(self.conv, x, training, self._patch_conv2d_kernel)

    def compute_output_shape(self, input_shape):
        return self.conv.compute_output_shape(input_shape)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}
