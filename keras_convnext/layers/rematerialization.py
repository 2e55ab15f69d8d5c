"""Layers whose activations `keras.RematScope` can recompute for the gradients."""

from collections.abc import Callable

import keras


class Rematerializable(keras.layers.Layer):
    """A layer of one input whose `training` stays a Python value when its call is recomputed.

    Keras hands `training` to what is recomputed as an argument. JAX would trace it there, and
    TensorFlow refuses arguments that are named.
    """

    def rematerialized_call(self, layer_call: Callable, *args, **kwargs) -> Callable:
        training = kwargs.get("training", False)

        def run(inputs):
            return layer_call(inputs, training=training)

        recomputed = super().rematerialized_call(run, *args, **kwargs)
        return lambda inputs, training=False: recomputed(inputs)
