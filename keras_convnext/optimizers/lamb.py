"""LAMB, with which timm trains ResNet-50."""

import keras
from keras import ops

from keras_convnext.kernels import reference
from keras_convnext.optimizers.adamw import AdamW
from keras_convnext.optimizers.base import Optimizer


@keras.saving.register_keras_serializable(package="keras_convnext")
class LAMB(AdamW):
    """LAMB as in timm: AdamW with the update of each tensor scaled to the tensor's norm.

    The update, including weight decay, is scaled to the norm of the tensor before the learning rate
    is applied. Tensors without weight decay are updated as by AdamW. Source: "Large Batch
    Optimization for Deep Learning", You et al. 2019; `timm.optim.Lamb`.

    Args:
        learning_rate: A number or a schedule. Defaults to 5e-3, that of "ResNet strikes back" for
            batches of 2048.
        weight_decay: Share of the weight in its update, before scaling. Defaults to 0.01.
        epsilon: Added to the denominator. Defaults to 1e-6.
        layer_decay: As in `AdamW`. Defaults to `None`, one rate for all layers.
        layer_decay_rule: As in `AdamW`. Defaults to `"group"`.
        decay_vectors: Whether tensors of one dimension decay, and have their updates scaled, too.
            Defaults to `False`.
        **kwargs: Further arguments as in `AdamW`. timm clips the norm of the gradients to 1 by
            default; here that is `global_clipnorm=1.0`.

    Raises:
        ValueError: If `layer_decay` is outside (0, 1], or the rule is unknown.

    Example:
        >>> optimizer = keras_convnext.optimizers.LAMB(5e-3, 0.01, global_clipnorm=1.0)
        >>> model.compile(optimizer, loss="binary_crossentropy")
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 5e-3,
        weight_decay: float = 0.01,
        epsilon: float = 1e-6,
        layer_decay: float | None = None,
        layer_decay_rule: str = "group",
        decay_vectors: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(
            learning_rate,
            weight_decay,
            epsilon,
            layer_decay,
            layer_decay_rule,
            decay_vectors,
            **kwargs,
        )

    def prepare_update(self, learning_rate):
        return reference.adam_bias_corrections(self._update_number(), self._betas())

    def _apply_update(self, gradient, variable, learning_rate, lr_multiplier, weight_decay):
        # Not AdamW's kernels: the trust ratio depends on the direction of all values.
        Optimizer._apply_update(
            self, gradient, variable, learning_rate, lr_multiplier, weight_decay
        )

    def _update_direction(self, gradient, variable, weight_decay):
        direction = reference.adam_direction(
            gradient, self._moments(variable), self._betas(), self.shared, self.epsilon
        )
        if not weight_decay:
            return direction
        direction = direction + weight_decay * variable
        return direction * _trust_ratio(variable, direction)


def _trust_ratio(weight, direction):
    weight_norm, direction_norm = _norm(weight), _norm(direction)
    has_both = ops.logical_and(weight_norm > 0, direction_norm > 0)
    return ops.where(has_both, weight_norm / direction_norm, 1.0)


def _norm(tensor):
    return ops.sqrt(ops.sum(ops.square(tensor)))
