"""Optimizers the recipes use, each usable in a `model.compile` of one's own."""

import keras


@keras.saving.register_keras_serializable(package="keras_convnext")
class AdamW(keras.optimizers.AdamW):
    """AdamW as the paper trains with it: vectors are not decayed, and epsilon is 1e-8.

    Biases, the scale and offset of LayerNorm and layer scale have one dimension and are left out of
    weight decay; kernels, of any kind, are decayed. Source: the official `optim_factory.py`; values
    in "A ConvNet for the 2020s", table 5. Keras's own list of exclusions is lost when a model is
    saved and loaded; this rule is not.

    Args:
        learning_rate: A number or a schedule. Defaults to 4e-3, the paper's for batches of 4096.
        weight_decay: Decoupled weight decay. Defaults to 0.05.
        epsilon: Added to the root in the denominator. Defaults to 1e-8; Keras's own is 1e-7.
        **kwargs: Further arguments of `keras.optimizers.AdamW`, such as `global_clipnorm`.

    Example:
        >>> model.compile(keras_convnext.optimizers.AdamW(1e-3), loss="categorical_crossentropy")
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 4e-3,
        weight_decay: float = 0.05,
        epsilon: float = 1e-8,
        **kwargs,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, epsilon=epsilon, **kwargs)

    def _apply_weight_decay(self, variables):
        decayed = [variable for variable in variables if len(variable.shape) > 1]
        if decayed:  # the PyTorch backend refuses an empty list
            super()._apply_weight_decay(decayed)
