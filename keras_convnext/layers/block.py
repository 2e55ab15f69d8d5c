import keras
from keras.dtype_policies import DTypePolicyMap

from keras_convnext import kernels
from keras_convnext.layers.depthwise_conv2d import DepthwiseConv2D
from keras_convnext.layers.initializers import LAYER_NORM_EPSILON, weight_initializer
from keras_convnext.layers.layer_scale import LayerScale
from keras_convnext.layers.stochastic_depth import StochasticDepth

# The two dense layers form an inverted bottleneck: four times wider inside (paper section 2.4).
EXPANSION = 4


@keras.saving.register_keras_serializable(package="keras_convnext")
class Block(keras.layers.Layer):
    """The ConvNeXt block: a residual branch of one depthwise convolution and two dense layers.

    `x + drop(scale(dense_2(gelu(dense_1(norm(depthwise(x)))))))`: depthwise convolution, LayerNorm
    over the channels, a dense layer to four times the channels, exact (erf) GELU, a dense layer
    back, layer scale, stochastic depth, and the addition. Source: "A ConvNet for the 2020s",
    sections 2.3 to 2.6 and figure 4.

    Args:
        kernel_size: Odd side of the depthwise kernel, in pixels. Defaults to 7.
        drop_path_rate: Probability of dropping the branch for a sample while training, in [0, 1).
            Defaults to 0.
        layer_scale_init_value: Initial value of layer scale, above 0, or `None` for a block
            without it. Defaults to 1e-6.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: Tensor of shape `(batch, height, width, channels)`.
        training: Whether stochastic depth drops samples.

    Returns:
        Tensor of the same shape.

    Raises:
        ValueError: If `kernel_size` is even, `drop_path_rate` lies outside [0, 1), or
            `layer_scale_init_value` is 0 or below.

    Example:
        >>> y = keras_convnext.layers.Block(drop_path_rate=0.1)(x)  # x: (8, 56, 56, 96)
    """

    def __init__(
        self,
        kernel_size: int = 7,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float | None = 1e-6,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.kernel_size = kernel_size
        self.drop_path_rate = drop_path_rate
        self.layer_scale_init_value = layer_scale_init_value
        policy = self.dtype_policy
        self.depthwise_conv = DepthwiseConv2D(
            kernel_size,
            kernel_initializer=weight_initializer(),
            dtype=policy,
            name="depthwise_conv",
        )
        self.norm = keras.layers.LayerNormalization(
            epsilon=LAYER_NORM_EPSILON, dtype=policy, name="norm"
        )
        self.layer_scale = None
        if layer_scale_init_value is not None:
            self.layer_scale = LayerScale(layer_scale_init_value, dtype=policy, name="layer_scale")
        self.stochastic_depth = StochasticDepth(
            drop_path_rate, dtype=policy, name="stochastic_depth"
        )

    def build(self, input_shape):
        self._norm_mlp_kernel = kernels.fastest_norm_mlp()
        channels = input_shape[-1]
        self.pointwise_conv_1 = self._dense(EXPANSION * channels, "pointwise_conv_1")
        self.pointwise_conv_2 = self._dense(channels, "pointwise_conv_2")
        self.depthwise_conv.build(input_shape)
        self.norm.build(input_shape)
        self.pointwise_conv_1.build(input_shape)
        self.pointwise_conv_2.build((*input_shape[:-1], EXPANSION * channels))
        if self.layer_scale is not None:
            self.layer_scale.build(input_shape)

    def _dense(self, units, name):
        policy = self.dtype_policy
        if isinstance(policy, DTypePolicyMap):  # as `get_config` writes it when quantized
            policy = policy[f"{self.path}/{name}"]
        return keras.layers.Dense(
            units, kernel_initializer=weight_initializer(), dtype=policy, name=name
        )

    def call(self, inputs, training=False):
        # Past `__call__`, which on PyTorch takes as long as what these layers do to one image.
        x = self.depthwise_conv.call(inputs, training)
        dense_layers = self.pointwise_conv_1, self.pointwise_conv_2
        x = kernels.norm_mlp(
            self.norm, *dense_layers, self.layer_scale, x, training, self._norm_mlp_kernel
        )
        x = self.stochastic_depth.call(x, training=training)
        return inputs + x

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "dtype": keras.dtype_policies.serialize(self._policy_with_quantized_parts()),
            "kernel_size": self.kernel_size,
            "drop_path_rate": self.drop_path_rate,
            "layer_scale_init_value": self.layer_scale_init_value,
        }

    def _policy_with_quantized_parts(self):
        """Returns the block's policy; after `model.quantize`, with those of its dense layers."""
        dense_layers = (self.pointwise_conv_1, self.pointwise_conv_2) if self.built else ()
        quantized = {
            layer.path: layer.dtype_policy for layer in dense_layers if layer.quantization_mode
        }
        if not quantized:
            return self.dtype_policy
        of_the_rest = getattr(self.dtype_policy, "default_policy", self.dtype_policy)
        return DTypePolicyMap(of_the_rest, quantized)
