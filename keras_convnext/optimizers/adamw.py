"""AdamW, which the networks of the paper are trained with."""

import math

import keras
from keras import ops
from keras.src.backend.common.stateless_scope import in_stateless_scope

from keras_convnext.kernels.select import fastest
from keras_convnext.optimizers.base import Optimizer, Step


@keras.saving.register_keras_serializable(package="keras_convnext")
class AdamW(Optimizer, keras.optimizers.AdamW):
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
            `optimizers.layer_decay`. Weight decay shrinks with the rate, as in PyTorch.
            Defaults to `None`, one rate for all.
        layer_decay_rule: Which layers form a group: `"group"` (three blocks, table 6), `"block"` or
            `"stage"`. Defaults to `"group"`.
        decay_vectors: Whether tensors of one dimension are decayed too. Defaults to `False`.
        **kwargs: Further arguments of `keras.optimizers.AdamW`, such as `beta_2` and
            `global_clipnorm`. With `gradient_accumulation_steps` a schedule counts updates. With
            `use_ema` and `ema_momentum` (0.9999 in table 5) the average starts from the weights as
            they are when training begins, as in timm, and training leaves the weights themselves in
            the model: `keras_convnext.callbacks.AverageEvaluation` evaluates the average. The
            statistics of BatchNorm are no part of it.

    Raises:
        ValueError: If `layer_decay` does not lie in (0, 1], or the rule is none of these.

    Example:
        >>> model.compile(keras_convnext.optimizers.AdamW(1e-3), loss="categorical_crossentropy")
        >>> fine_tuning = keras_convnext.optimizers.AdamW(5e-5, 1e-8, layer_decay=0.8)
    """

    epsilon: float

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 4e-3,
        weight_decay: float = 0.05,
        epsilon: float = 1e-8,
        layer_decay: float | None = None,
        layer_decay_rule: str = "group",
        decay_vectors: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(
            learning_rate,
            weight_decay=weight_decay,
            epsilon=epsilon,
            layer_decay=layer_decay,
            layer_decay_rule=layer_decay_rule,
            decay_vectors=decay_vectors,
            **kwargs,
        )

    def _step(self, rate):
        update = ops.cast(self.iterations, "float32") + 1
        sums = [_sum_of_weights(beta, update) for beta in (self.beta_1, self.beta_2)]
        return Step(rate, sums, self._kernel(update, rate))

    def _kernel(self, update, rate):
        """Returns what moves a weight and its averages in place; `None` where nothing does."""
        # In a stateless scope nothing is changed in place.
        kernel = None if in_stateless_scope() else fastest("adamw", None)
        return kernel and kernel(update, rate, (self.beta_1, self.beta_2), self.epsilon)

    def _move(self, gradient, variable, step, scale, decay):
        # In half precision 1 - beta_2 may be 0, which the kernels take for what a term weighs.
        if step.kernel is None or _is_half(variable):
            super()._move(gradient, variable, step, scale, decay)
            return
        step.kernel(variable, gradient, *self._averages_of(variable), scale, decay)

    def _update(self, gradient, variable, step, decay):
        direction = self._direction(gradient, variable, step.sums)
        return direction + decay * variable if decay else direction

    def _direction(self, gradient, variable, sums):
        mean, square, greatest = self._averages_of(variable)
        self.assign_add(mean, (gradient - mean) * (1 - self.beta_1))
        self.assign_add(square, (ops.square(gradient) - square) * (1 - self.beta_2))
        if greatest is not None:
            self.assign(greatest, ops.maximum(greatest, square))
            square = greatest
        # Keras adds epsilon to the root before the correction of its bias, PyTorch after it. At
        # the start that is a factor of 30 on epsilon, which small gradients feel.
        of_mean, of_square = sums
        root = ops.sqrt(square) / ops.cast(ops.sqrt(of_square), variable.dtype)
        mean = mean / ops.cast(of_mean, variable.dtype)
        return mean / (root + self.epsilon)

    def _averages_of(self, variable):
        """Returns the averages of a weight's gradients and of their squares.

        The third is, with AMSGrad, the greatest that the second ever was; else `None`.
        """
        index = self._get_variable_index(variable)
        greatest = self._velocity_hats[index] if self.amsgrad else None
        return self._momentums[index], self._velocities[index], greatest


def _sum_of_weights(beta: float, update):
    """Returns what the terms of an average have as weights in sum, and it must be divided by.

    That is one minus a power of `beta`, but `beta` itself would lose the digits that count.
    """
    if beta == 0:
        return ops.ones_like(update)
    return -ops.expm1(update * math.log(beta))


def _is_half(variable) -> bool:
    return keras.backend.standardize_dtype(variable.dtype) in ("bfloat16", "float16")
