"""LAMB, which timm trains ResNet-50 with."""

import keras
from keras import ops

from keras_convnext.optimizers.adamw import AdamW


@keras.saving.register_keras_serializable(package="keras_convnext")
class LAMB(AdamW):
    """LAMB as timm has it: AdamW whose update of a tensor is as long as the tensor itself.

    The update, its weight decay included, is scaled to the length of the tensor it moves before the
    learning rate is applied. Tensors that are not decayed are moved as by AdamW. Source: "Large
    Batch Optimization for Deep Learning", You et al. 2019; `timm.optim.Lamb`.

    Args:
        learning_rate: A number or a schedule. Defaults to 5e-3, that of "ResNet strikes back" for
            batches of 2048.
        weight_decay: Share of the weight in its update, before that is scaled. Defaults to 0.01.
        epsilon: Added to the root in the denominator. Defaults to 1e-6.
        layer_decay: As of `AdamW`. Defaults to `None`, one rate for all.
        layer_decay_rule: As of `AdamW`. Defaults to `"group"`.
        decay_vectors: Whether tensors of one dimension are decayed, and their updates scaled, too.
            Defaults to `False`.
        **kwargs: Further arguments as of `AdamW`. timm's clips the gradients' norm to 1 unless told
            otherwise, which here is `global_clipnorm=1.0`.

    Raises:
        ValueError: If `layer_decay` does not lie in (0, 1], or the rule is none of these.

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

    def _kernel(self, update, rate):
        return None  # how far a weight is moved depends on all of its update

    def _update(self, gradient, variable, step, decay):
        update = super()._update(gradient, variable, step, decay)
        return update * _trust_ratio(variable, update) if decay else update


def _trust_ratio(weight, update):
    weight_norm, update_norm = _norm(weight), _norm(update)
    has_both = ops.logical_and(weight_norm > 0, update_norm > 0)
    return ops.where(has_both, weight_norm / update_norm, 1.0)


def _norm(tensor):
    return ops.sqrt(ops.sum(ops.square(tensor)))
