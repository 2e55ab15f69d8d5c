import keras

from keras_convnext import kernels
from keras_convnext.layers.initializers import LAYER_NORM_EPSILON, weight_initializer


@keras.saving.register_keras_serializable(package="keras_convnext")
class Stem(keras.layers.Layer):
    """Cuts the image into square patches, one vector each, and normalises every vector.

    A convolution whose kernel and stride are the patch, then a LayerNorm over the channels. Source:
    "A ConvNet for the 2020s", section 2.2 ("patchify") and 2.6 (the LayerNorm after it). Rows and
    columns that do not fill a patch are left out, as in the official code.

    Args:
        filters: Channels of the result.
        patch_size: Side of a patch in pixels. Defaults to 4.
        use_norm: Whether the LayerNorm is there; the isotropic networks (section 3.3) go without.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: Tensor of shape `(batch, height, width, channels)`.

    Returns:
        Tensor of shape `(batch, height // patch_size, width // patch_size, filters)`.

    Example:
        >>> y = keras_convnext.layers.Stem(96)(images)  # (8, 224, 224, 3) to (8, 56, 56, 96)
    """

    def __init__(self, filters: int, patch_size: int = 4, use_norm: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.patch_size = patch_size
        self.use_norm = use_norm
        self.conv = keras.layers.Conv2D(
            filters,
            patch_size,
            strides=patch_size,
            data_format="channels_last",
            kernel_initializer=weight_initializer(),
            dtype=self.dtype_policy,
            name="conv",
        )
        self.norm = None
        if use_norm:
            self.norm = keras.layers.LayerNormalization(
                epsilon=LAYER_NORM_EPSILON, dtype=self.dtype_policy, name="norm"
            )

    def build(self, input_shape):
        self._patch_conv2d_kernel = kernels.fastest_patch_conv2d()
        self._layer_norm_kernel = kernels.fastest_layer_norm()
        self.conv.build(input_shape)
        if self.norm is not None:
            self.norm.build(self.conv.compute_output_shape(input_shape))

    def call(self, inputs, training=False):
        x = kernels.patch_conv2d(self.conv, inputs, training, self._patch_conv2d_kernel)
        if self.norm is None:
            return x
        return kernels.layer_norm(self.norm, x, training, self._layer_norm_kernel)

    def compute_output_shape(self, input_shape):
        return self.conv.compute_output_shape(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "patch_size": self.patch_size,
            "use_norm": self.use_norm,
        }
