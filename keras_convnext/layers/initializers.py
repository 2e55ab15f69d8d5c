"""What every convolution, dense layer and normalisation of the network has in common."""

import keras

# REFERENCE: official code, `LayerNorm(eps=1e-6)` everywhere. Keras's own default is 1e-3.
LAYER_NORM_EPSILON = 1e-6


def weight_initializer(scale: float = 1.0) -> keras.initializers.Initializer:
    """Returns the initialiser of every convolution and dense kernel: a normal of deviation .02.

    The paper's tables say "truncated normal (0.2)", but the official code cuts a normal of
    deviation 0.02 at the absolute values -2 and 2, a hundred deviations out, so nothing is cut.
    Keras's `TruncatedNormal` cuts at two deviations and would start narrower.

    Args:
        scale: Factor on the deviation, such as the `head_init_scale` of a network.
    """
    return keras.initializers.RandomNormal(stddev=0.02 * scale)
