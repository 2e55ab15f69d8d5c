import keras
from keras import ops

from keras_convnext.layers.input_specs import channels_of


@keras.saving.register_keras_serializable(package="keras_convnext")
class LayerScale(keras.layers.Layer):
    """Multiplies every channel by a learned factor that starts near zero.

    So each residual branch of a deep network starts as almost nothing and grows during training.
    Source: "A ConvNet for the 2020s", table 5 and appendix A.1 (1e-6); first proposed in "Going
    deeper with Image Transformers" (section 2.1).

    The factors are stored in float32 under any dtype policy, and the product is computed in at
    least float32. In half precision 1e-6 is subnormal, and its updates would be lost.

    Args:
        init_value: Initial value of every factor, above 0. Defaults to 1e-6.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: Tensor of shape `(..., channels)`.

    Returns:
        Tensor of the same shape and of the layer's compute dtype.

    Raises:
        ValueError: If `init_value` is not above 0. With 0 the branch would have no output, and its
            weights no gradient.

    Example:
        >>> y = keras_convnext.layers.LayerScale(1e-6)(x)  # x: (batch, height, width, channels)
    """

    def __init__(self, init_value: float = 1e-6, **kwargs) -> None:
        super().__init__(**kwargs)
        if not init_value > 0:
            raise ValueError(
                f"`init_value` must be above 0, since a branch scaled by 0 cannot learn. "
                f"Received: init_value={init_value}. For a network without layer scale, pass "
                f"layer_scale_init_value=None to the model."
            )
        self.init_value = float(init_value)

    def build(self, input_shape):
        channels = channels_of(self, input_shape)
        self.input_spec = keras.InputSpec(min_ndim=1, axes={-1: channels})
        self.gamma = self.add_weight(
            name="gamma",
            shape=(channels,),
            initializer=keras.initializers.Constant(self.init_value),
            dtype="float32",
            autocast=False,
        )

    def call(self, inputs):
        exact = keras.backend.result_type(inputs.dtype, "float32")
        scaled = ops.multiply(ops.cast(inputs, exact), ops.cast(self.gamma, exact))
        return ops.cast(scaled, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "init_value": self.init_value}
