"""Layers whose activations `keras.RematScope` can recompute in the backward pass."""

from collections.abc import Callable

import keras


class Rematerializable(keras.layers.Layer):
    """A layer with one input whose `training` remains a Python value when it is recomputed.

    Keras passes `training` to the recomputed function as an argument. JAX would trace it there, and
    TensorFlow does not accept keyword arguments.
    """

    def rematerialized_call(self, layer_call: Callable, *args, **kwargs) -> Callable:
        training = kwargs.get("training", False)

        def run(inputs):
            return layer_call(inputs, training=training)

        recomputed = super().rematerialized_call(run, *args, **kwargs)
        return lambda inputs, training=False: recomputed(inputs)
