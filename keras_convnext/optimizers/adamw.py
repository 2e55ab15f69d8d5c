"""AdamW, the optimizer of the paper."""

from collections.abc import Callable
from typing import NamedTuple

import keras
from keras import ops

from keras_convnext import keras_private
from keras_convnext.kernels import reference
from keras_convnext.kernels.reference import AdamMoments
from keras_convnext.kernels.select import select
from keras_convnext.optimizers.base import Optimizer


class _Update(NamedTuple):
    """Functions that apply the current update to a weight: the reference, and a kernel."""

    exact: Callable
    fastest: Callable


@keras.saving.register_keras_serializable(package="keras_convnext")
class AdamW(Optimizer, keras.optimizers.AdamW):
    """AdamW as in the paper: vectors do not decay, and epsilon is 1e-8.

    Biases, the factors and offsets of LayerNorm, and layer scale have one dimension and do not
    decay; kernels of any kind do. Epsilon is added after bias correction, as in PyTorch. Source:
    the official `optim_factory.py`; values in "A ConvNet for the 2020s", table 5. Keras's own list
    of exclusions is lost when a model is saved and loaded; this rule is not.

    Args:
        learning_rate: A number or a schedule. Defaults to 4e-3, the paper's for batches of 4096.
        weight_decay: Decoupled weight decay. Defaults to 0.05.
        epsilon: Added to the denominator. Defaults to 1e-8; Keras's own default is 1e-7.
        layer_decay: For fine-tuning, the factor on the learning rate from one group of layers to
            the next one nearer to the image, in (0, 1]: 0.8 in table 6, see
            `optimizers.layer_decay`. Weight decay shrinks with the rate, as in PyTorch.
            Defaults to `None`, one rate for all layers.
        layer_decay_rule: Which layers form a group: `"group"` (three blocks, table 6), `"block"` or
            `"stage"`. Defaults to `"group"`.
        decay_vectors: Whether tensors of one dimension decay too. Defaults to `False`.
        **kwargs: Further arguments of `keras.optimizers.AdamW`, such as `beta_2` and
            `global_clipnorm`. With `gradient_accumulation_steps` a schedule counts updates. With
            `use_ema` and `ema_momentum` (0.9999 in table 5) the EMA starts from the weights as they
            are when training begins, as in timm, and training leaves the weights themselves in the
            model: `keras_convnext.callbacks.EMAEvaluation` evaluates the EMA. It does not include
            the statistics of BatchNorm.

    Raises:
        ValueError: If `layer_decay` is outside (0, 1], or the rule is unknown.

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

    def prepare_update(self, learning_rate):
        arguments = self._update_number(), learning_rate, self._betas(), self.epsilon
        exact = reference.adamw(*arguments)
        # The kernels change variables in place, which a stateless scope does not allow.
        fastest = exact if keras_private.is_stateless() else select("adamw")(*arguments)
        return _Update(exact, fastest)

    def _apply_update(self, gradient, variable, learning_rate, lr_multiplier, weight_decay):
        # In half precision 1 - beta_2 may round to 0, and the kernels would use it as such.
        apply = self.shared.exact if _is_half(variable) else self.shared.fastest
        apply(variable, gradient, self._moments(variable), lr_multiplier, weight_decay)

    def _betas(self) -> tuple[float, float]:
        return self.beta_1, self.beta_2

    def _update_number(self):
        """Returns the number of this update, from 1, as a scalar tensor."""
        return ops.cast(self.iterations, "float32") + 1

    def _moments(self, variable) -> AdamMoments:
        """Returns a weight's moments, which Keras has in lists with names of their own."""
        slots = [self._momentums, self._velocities]
        if self.amsgrad:
            slots.append(self._velocity_hats)
        return AdamMoments(*(self.slot(slot, variable) for slot in slots))


def _is_half(variable) -> bool:
    return keras.backend.standardize_dtype(variable.dtype) in ("bfloat16", "float16")
