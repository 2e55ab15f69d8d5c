"""The initializer of all kernels of the network, and the epsilon of all its LayerNorms."""

import keras
import numpy as np
from keras import ops

# REFERENCE: official code, `LayerNorm(eps=1e-6)` everywhere. Keras's own default is 1e-3.
LAYER_NORM_EPSILON = 1e-6


@keras.saving.register_keras_serializable(package="keras_convnext")
class Normal(keras.initializers.RandomNormal):
    """Keras's `RandomNormal`, whose values are drawn by NumPy on the JAX backend.

    JAX would compile the draw for each shape, which took most of the time of building a network.

    Args:
        mean: Mean of the values. Defaults to 0.
        stddev: Their standard deviation. Defaults to 0.05.
        seed: Integer seed, or `None` to take one from Python's generator, which
            `keras.utils.set_random_seed` fixes. With a `keras.random.SeedGenerator` Keras draws.

    Example:
        >>> layer = keras.layers.Dense(10, kernel_initializer=Normal(stddev=0.02))
    """

    def __call__(self, shape, dtype=None):
        if keras.backend.backend() != "jax" or not isinstance(self.seed, int):
            return super().__call__(shape, dtype)
        # Philox was the fastest of NumPy's generators here.
        values = np.random.Generator(np.random.Philox(self.seed)).standard_normal(shape, "float32")
        values *= self.stddev
        values += self.mean
        return ops.convert_to_tensor(values, dtype or keras.config.floatx())


def weight_initializer(scale: float = 1.0) -> keras.initializers.Initializer:
    """Returns the initializer of all kernels: a normal with standard deviation 0.02.

    The paper's tables say "truncated normal (0.2)". The official code truncates a normal with
    standard deviation 0.02 at the absolute values -2 and 2, a hundred standard deviations, so it
    truncates nothing. Keras's `TruncatedNormal` truncates at two standard deviations.

    Args:
        scale: Factor on the standard deviation, such as the `head_init_scale` of a network.
            Defaults to 1.
    """
    return Normal(stddev=0.02 * scale)
