import keras
from keras import ops

from keras_convnext.layers.input_specs import channels_of, image_spec
from keras_convnext.layers.kernel_calls import kernel_for_layer
from keras_convnext.layers.rematerialization import Rematerializable
from keras_convnext.layers.weight_regularizer import WeightRegularizer


@keras.saving.register_keras_serializable(package="keras_convnext")
class DepthwiseConv2D(Rematerializable):
    """Convolves each channel with its own square kernel, and keeps height and width.

    This is the spatial mixing of a ConvNeXt block (paper section 2.3 for depthwise, 2.5 for 7x7).
    Unlike `keras.layers.DepthwiseConv2D` it uses the fastest implementation known for the backend
    (see `keras_convnext.kernels`), and supports only what the network needs: stride 1, symmetric
    zero padding, one filter per channel, channels last. The kernel has the same shape as in Keras.

    Args:
        kernel_size: Odd side of the square kernel, in pixels. Defaults to 7.
        use_bias: Whether to add a bias to each channel. Defaults to `True`.
        kernel_initializer: Initializer of the kernel. Defaults to Keras's `"glorot_uniform"`.
        bias_initializer: Initializer of the bias. Defaults to `"zeros"`.
        kernel_regularizer: Regularizer of the kernel. Defaults to `None`.
        bias_regularizer: Regularizer of the bias. Defaults to `None`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: Tensor of shape `(batch, height, width, channels)`.
        training: Whether gradients will be computed; it does not change the result.

    Returns:
        Tensor of the same shape.

    Raises:
        ValueError: If `kernel_size` is even or below 1, so that it cannot be centered on a pixel.
            When called, if the inputs are not images with the number of channels that the layer
            was built for.

    Example:
        >>> y = keras_convnext.layers.DepthwiseConv2D(7)(x)  # x: (batch, height, width, channels)
    """

    kernel_regularizer = WeightRegularizer()
    bias_regularizer = WeightRegularizer()

    def __init__(
        self,
        kernel_size: int = 7,
        use_bias: bool = True,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        bias_initializer: str | keras.initializers.Initializer = "zeros",
        kernel_regularizer: str | dict | keras.regularizers.Regularizer | None = None,
        bias_regularizer: str | dict | keras.regularizers.Regularizer | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"`kernel_size` must be odd and at least 1, so that the kernel is centered on a "
                f"pixel. Received: kernel_size={kernel_size}."
            )
        self.kernel_size = kernel_size
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.input_spec = image_spec()

    def build(self, input_shape):
        self._convolve = kernel_for_layer("depthwise_conv2d", self.kernel_size)
        channels = channels_of(self, input_shape)
        self.input_spec = image_spec(channels)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, self.kernel_size, channels, 1),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(channels,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
            )

    def call(self, inputs, training=False):
        kernel = ops.convert_to_tensor(self.kernel)
        bias = None if self.bias is None else ops.convert_to_tensor(self.bias)
        return self._convolve(inputs, kernel, bias, training)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
        }
