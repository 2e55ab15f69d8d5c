from collections.abc import Mapping
from typing import Any

import keras
from keras import ops
from keras.dtype_policies import DTypePolicyMap

from keras_convnext.layers.composite import Composite
from keras_convnext.layers.depthwise_conv2d import DepthwiseConv2D
from keras_convnext.layers.initializers import LAYER_NORM_EPSILON, weight_initializer
from keras_convnext.layers.input_specs import channels_of, image_spec
from keras_convnext.layers.kernel_calls import call_norm_mlp, kernel_for_layer
from keras_convnext.layers.layer_scale import LayerScale
from keras_convnext.layers.stochastic_depth import StochasticDepth

# The two dense layers form an inverted bottleneck: four times wider inside (paper section 2.4).
EXPANSION = 4
DENSE_LAYERS = "pointwise_conv_1", "pointwise_conv_2"


@keras.saving.register_keras_serializable(package="keras_convnext")
class Block(Composite):
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
        kernel_regularizer: Regularizer of the kernels of all parts, as in `keras.layers.Dense`.
            Defaults to `None`. The attribute can also be set later.
        parts: Further constructor arguments of the parts, by the name of the part, such as
            `{"norm": {"beta_regularizer": "l2"}}`. Defaults to `None`. The config of the layer
            contains what was set on its parts in this form.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: Tensor of shape `(batch, height, width, channels)`.
        training: Whether stochastic depth drops samples.

    Returns:
        Tensor of the same shape.

    Raises:
        ValueError: If `kernel_size` is even, `drop_path_rate` is outside [0, 1), or
            `layer_scale_init_value` is not above 0. When called, if the inputs are not images with
            the number of channels that the block was built for.

    Example:
        >>> y = keras_convnext.layers.Block(drop_path_rate=0.1)(x)  # x: (8, 56, 56, 96)
    """

    def __init__(
        self,
        kernel_size: int = 7,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float | None = 1e-6,
        kernel_regularizer: str | dict | keras.regularizers.Regularizer | None = None,
        parts: Mapping[str, Mapping[str, Any]] | None = None,
        **kwargs,
    ) -> None:
        super().__init__(kernel_regularizer, parts, **kwargs)
        self.kernel_size = kernel_size
        self.layer_scale_init_value = layer_scale_init_value
        policy = self.dtype_policy
        self.depthwise_conv = self._part(
            DepthwiseConv2D,
            "depthwise_conv",
            kernel_size,
            kernel_initializer=weight_initializer(),
            kernel_regularizer=self.kernel_regularizer,
            dtype=policy,
        )
        self.norm = self._part(
            keras.layers.LayerNormalization, "norm", epsilon=LAYER_NORM_EPSILON, dtype=policy
        )
        self.layer_scale = None
        if layer_scale_init_value is not None:
            self.layer_scale = self._part(
                LayerScale, "layer_scale", layer_scale_init_value, dtype=policy
            )
        self.stochastic_depth = self._part(
            StochasticDepth, "stochastic_depth", drop_path_rate, dtype=policy
        )

    @property
    def drop_path_rate(self) -> float:
        """Probability of dropping the branch for a sample while training, in [0, 1).

        It is the rate of the part `stochastic_depth`, and can be set. On TensorFlow and JAX, a
        compiled train function keeps the old rate until `model.compile` is called again.
        """
        return self.stochastic_depth.rate

    @drop_path_rate.setter
    def drop_path_rate(self, value: float) -> None:
        self.stochastic_depth.rate = value

    def build(self, input_shape):
        self._norm_mlp = kernel_for_layer("norm_mlp")
        channels = channels_of(self, input_shape)
        self.input_spec = image_spec(channels)
        self.pointwise_conv_1 = self._dense(EXPANSION * channels, "pointwise_conv_1")
        self.pointwise_conv_2 = self._dense(channels, "pointwise_conv_2")
        self.depthwise_conv.build(input_shape)
        self.norm.build(input_shape)
        self.pointwise_conv_1.build(input_shape)
        self.pointwise_conv_2.build((*input_shape[:-1], EXPANSION * channels))
        if self.layer_scale is not None:
            self.layer_scale.build(input_shape)
        self._watch_parts()

    def _dense(self, units, name):
        policy = self.dtype_policy
        if isinstance(policy, DTypePolicyMap):
            # The config of a quantized block has the names of its parts, other maps whole paths.
            policy = policy[name if name in policy else f"{self.path}/{name}"]
        return self._part(
            keras.layers.Dense,
            name,
            units,
            kernel_initializer=weight_initializer(),
            kernel_regularizer=self.kernel_regularizer,
            dtype=policy,
        )

    def call(self, inputs, training=False):
        return self._add(inputs, self._branch(inputs, training), training)

    def rematerialized_call(self, layer_call, *args, **kwargs):
        # Stochastic depth is not recomputed, since it would draw again.
        branch = super().rematerialized_call(self._branch, *args, **kwargs)
        return lambda inputs, training=False: self._add(inputs, branch(inputs), training)

    def _branch(self, inputs, training):
        if self._part_watch.finds_something():
            return self._branch_of_layers(inputs, training)
        # Not by `__call__`, which on PyTorch takes as long as these layers do for one image.
        x = self.depthwise_conv.call(inputs, training)
        dense_layers = self.pointwise_conv_1, self.pointwise_conv_2
        return call_norm_mlp(
            self._norm_mlp, self.norm, *dense_layers, self.layer_scale, x, training
        )

    def _branch_of_layers(self, inputs, training):
        x = self.norm(self.depthwise_conv(inputs, training=training))
        x = self.pointwise_conv_2(ops.gelu(self.pointwise_conv_1(x), approximate=False))
        return x if self.layer_scale is None else self.layer_scale(x)

    def _add(self, inputs, branch, training):
        if self._part_watch.finds_something():
            return inputs + self.stochastic_depth(branch, training=training)
        return inputs + self.stochastic_depth.call(branch, training)

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
        """Returns the block's policy, with those of its dense layers after `model.quantize`."""
        dense_layers = (self.pointwise_conv_1, self.pointwise_conv_2) if self.built else ()
        quantized = {
            layer.name: layer.dtype_policy for layer in dense_layers if layer.quantization_mode
        }
        policy = self.dtype_policy
        if not quantized:
            return policy
        if isinstance(policy, DTypePolicyMap):
            return DTypePolicyMap(policy.default_policy, {**policy, **quantized})
        return DTypePolicyMap(policy, quantized)

    @classmethod
    def from_config(cls, config):
        return super().from_config({**config, "dtype": _with_relative_names(config.get("dtype"))})


def _with_relative_names(policy):
    """Returns the policy of a quantized block's config with its parts by name, not by path.

    Earlier configs have the paths of the parts in their model, which are wrong as soon as the block
    has another name or is in another model.
    """
    if not isinstance(policy, dict) or policy.get("class_name") != "DTypePolicyMap":
        return policy
    policies = policy["config"]["policy_map"]
    parts = {path: path.rpartition("/")[::2] for path in policies}
    of_one_block = len({block for block, _ in parts.values()}) == 1
    if not of_one_block or not {name for _, name in parts.values()} <= set(DENSE_LAYERS):
        return policy
    renamed = {name: policies[path] for path, (_, name) in parts.items()}
    return {**policy, "config": {**policy["config"], "policy_map": renamed}}
