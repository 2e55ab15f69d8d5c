"""Optimizers the recipes use, each usable in a `model.compile` of one's own."""

import collections

import keras
from keras import ops

from keras_convnext.layer_decay import BLOCKS_OF, layer_scales


@keras.saving.register_keras_serializable(package="keras_convnext")
class AdamW(keras.optimizers.AdamW):
    """AdamW as the paper trains with it: vectors are not decayed, and epsilon is 1e-8.

    Biases, the scale and offset of LayerNorm and layer scale have one dimension and are left out of
    weight decay; kernels, of any kind, are decayed. Epsilon is added where PyTorch adds it.
    Source: the official `optim_factory.py`; values in "A ConvNet for the 2020s", table 5. Keras's
    own list of exclusions is lost when a model is saved and loaded; this rule is not.

    Args:
        learning_rate: A number or a schedule. Defaults to 4e-3, the paper's for batches of 4096.
        weight_decay: Decoupled weight decay. Defaults to 0.05.
        epsilon: Added to the root in the denominator. Defaults to 1e-8; Keras's own is 1e-7.
        layer_decay: For fine-tuning, the factor on the learning rate from one group of layers to
            the next one nearer to the image, in (0, 1]: 0.8 in table 6, see
            `keras_convnext.layer_decay`. Weight decay shrinks with the rate, as in PyTorch.
            Defaults to `None`, one rate for all.
        layer_decay_rule: Which layers form a group: `"group"` (three blocks, table 6), `"block"` or
            `"stage"`. Defaults to `"group"`.
        **kwargs: Further arguments of `keras.optimizers.AdamW`, such as `global_clipnorm`. With
            `use_ema` and `ema_momentum` (0.9999 in table 5) the average starts from the weights as
            they are when training begins, as in timm, and training leaves the weights themselves in
            the model: `keras_convnext.callbacks.AverageEvaluation` evaluates the average.

    Example:
        >>> model.compile(keras_convnext.optimizers.AdamW(1e-3), loss="categorical_crossentropy")
        >>> fine_tuning = keras_convnext.optimizers.AdamW(5e-5, 1e-8, layer_decay=0.8)
    """

    weight_decay: float | None
    epsilon: float

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 4e-3,
        weight_decay: float = 0.05,
        epsilon: float = 1e-8,
        layer_decay: float | None = None,
        layer_decay_rule: str = "group",
        **kwargs,
    ) -> None:
        if layer_decay is not None and not 0 < layer_decay <= 1:
            raise ValueError(
                f"`layer_decay` is the factor from one group of layers to the next and must lie in "
                f"(0, 1], or be None for one rate. Received: layer_decay={layer_decay}."
            )
        if layer_decay_rule not in BLOCKS_OF:
            raise ValueError(
                f"`layer_decay_rule` must be one of {', '.join(BLOCKS_OF)}. "
                f"Received: layer_decay_rule={layer_decay_rule!r}."
            )
        super().__init__(learning_rate, weight_decay=weight_decay, epsilon=epsilon, **kwargs)
        self.layer_decay = layer_decay
        self.layer_decay_rule = layer_decay_rule
        self._scales: list[float] = []

    def build(self, variables):
        super().build(variables)
        decay = 1.0 if self.layer_decay is None else self.layer_decay
        paths = [variable.path for variable in variables]
        self._scales = layer_scales(paths, decay, self.layer_decay_rule)

    def add_optimizer_variables(self, trainable_variables, name, initializer="zeros"):
        if name != "average":
            return super().add_optimizer_variables(trainable_variables, name, initializer)
        # The averages start from the weights; Keras has them start from the first update's.
        return [
            self.add_variable_from_reference(variable, name, initializer=_value_of(variable))
            for variable in trainable_variables
        ]

    def averages(self, variables):
        """Returns pairs of a weight's moving average and the weight; none without `use_ema`.

        Args:
            variables: The weights that are trained, in the order the optimizer was built with.
        """
        if not self.use_ema:
            return []
        return list(zip(self._model_variables_moving_average, variables, strict=True))

    def _update_model_variables_moving_average(self, trainable_variables):
        for average, variable in self.averages(trainable_variables):
            kept = self.ema_momentum * average
            average.assign(kept + (1 - self.ema_momentum) * ops.cast(variable, average.dtype))

    def finalize_variable_values(self, var_list):
        """Leaves the weights as they are; Keras would put their average in their place."""

    def update_step(self, gradient, variable, learning_rate):
        # Keras adds epsilon to the root before the correction of its bias, PyTorch after it. At
        # the start that is a factor of 30 on epsilon, which small gradients feel.
        step = ops.cast(self.iterations + 1, variable.dtype)
        correction = ops.sqrt(1 - ops.power(ops.cast(self.beta_2, variable.dtype), step))
        epsilon = self.epsilon
        self.epsilon = epsilon * correction
        super().update_step(gradient, variable, learning_rate * self._scale(variable))
        self.epsilon = epsilon

    def _apply_weight_decay(self, variables):
        of_scale = collections.defaultdict(list)
        for variable in variables:
            if len(variable.shape) > 1:
                of_scale[self._scale(variable)].append(variable)
        weight_decay = self.weight_decay or 0.0
        for scale, decayed in of_scale.items():
            # Keras multiplies by the rate that all layers share.
            self.weight_decay = weight_decay * scale
            super()._apply_weight_decay(decayed)
        self.weight_decay = weight_decay

    def _scale(self, variable):
        return self._scales[self._get_variable_index(variable)]

    def get_config(self):
        return {
            **super().get_config(),
            "layer_decay": self.layer_decay,
            "layer_decay_rule": self.layer_decay_rule,
        }


def _value_of(variable):
    # A copy, since JAX gives away the arrays of a model in training: two must not share one.
    return lambda shape, dtype: ops.copy(ops.cast(variable, dtype))
