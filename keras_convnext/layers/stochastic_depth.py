import keras
import numpy as np
from keras import ops

from keras_convnext.distribution.replicas import draw_own
from keras_convnext.kernels.draws import repeatable_draws


@keras.saving.register_keras_serializable(package="keras_convnext")
class StochasticDepth(keras.layers.Layer):
    """Drops a residual branch for whole samples while training.

    Each sample of the batch is kept or set to zero independently. Kept samples are divided by the
    probability of being kept, so that the expected value does not change. Outside training the
    layer does nothing. Replicas draw for the whole batch of a step, so that training on several
    devices has the same result as on one. Source: "Deep Networks with Stochastic Depth"; rates per
    network in "A ConvNet for the 2020s", tables 5 and 6.

    The layer has its own seed generator, without which JAX cannot trace it. The generator's state
    is saved with the weights, so that a resumed run draws the same as one without interruption.

    Args:
        rate: Probability of dropping a sample, from 0 up to but not including 1. Defaults to 0.
            The attribute can be set. On TensorFlow and JAX, a compiled train function keeps the
            old rate until `model.compile` is called again.
        seed: Integer seed, or `None` to draw one from Python's generator, which
            `keras.utils.set_random_seed` seeds. Defaults to `None`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: Tensor of shape `(batch, ...)`.
        training: Whether to drop samples. Must be a Python value.

    Returns:
        Tensor of the same shape and dtype.

    Raises:
        ValueError: If `rate` is outside [0, 1), or `training` is a traced tensor.

    Example:
        >>> y = keras_convnext.layers.StochasticDepth(0.1)(x)  # x: (batch, height, width, channels)
    """

    SEED_STATE = "seed_generator_state"

    def __init__(self, rate: float = 0.0, seed: int | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self._draws = repeatable_draws()
        self.seed_generator: keras.random.SeedGenerator | None = None
        self.rate = rate
        self.built = True  # the layer has no weights

    @property
    def rate(self) -> float:
        """Probability of dropping a sample."""
        return self._rate

    @rate.setter
    def rate(self, value: float) -> None:
        if not 0 <= value < 1:
            raise ValueError(
                f"`rate` is the probability of dropping a sample and must lie in [0, 1). "
                f"Received: rate={value}."
            )
        self._rate = float(value)
        if value > 0 and self.seed_generator is None:
            self.seed_generator = keras.random.SeedGenerator(self.seed)

    def rematerialized_call(self, layer_call, *args, **kwargs):
        return layer_call  # recomputed, it would draw again, and there is little memory to save

    def call(self, inputs, training=False):
        if self._rate == 0 or not _is_known(training):
            return inputs
        keep = 1.0 - self.rate
        ones = (1,) * (len(inputs.shape) - 1)

        def draw(samples):
            return keras.random.uniform((samples, *ones), dtype="float32", seed=self.seed_generator)

        draws = self._draws(lambda: draw_own(ops.shape(inputs)[0], draw))
        scale = ops.where(draws < keep, 1.0 / keep, 0.0)
        return inputs * ops.cast(scale, inputs.dtype)

    def save_own_variables(self, store):
        if self.seed_generator is not None:
            store[self.SEED_STATE] = ops.convert_to_numpy(self.seed_generator.state)

    def load_own_variables(self, store):
        # At rate 0 there is no state, in the file or in the layer. The rate may differ between
        # pre-training and fine-tuning, and the weights must load all the same.
        if self.seed_generator is not None and self.SEED_STATE in store.keys():  # noqa: SIM118
            self.seed_generator.state.assign(np.asarray(store[self.SEED_STATE]))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


def _is_known(training) -> bool:
    try:
        return bool(training)
    except TypeError as error:  # from JAX and TensorFlow, for a traced tensor
        raise ValueError(
            "Stochastic depth needs `training` as a Python value: pass True or False. Inside "
            "`jax.checkpoint` or `jax.jit`, close over the value instead of passing it as an "
            "argument. To recompute a model, recompute its layers: create the network within "
            "`keras.RematScope`, and call it outside."
        ) from error
