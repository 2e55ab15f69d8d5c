"""What the optimizers share: the rule for weight decay, and learning-rate multipliers."""

from keras import ops

from keras_convnext.optimizers.keras_hooks import Hooks
from keras_convnext.optimizers.layer_decay import BLOCKS_OF, lr_multipliers


class Optimizer(Hooks):
    """An optimizer that updates weights as the official code does, whatever the direction.

    Biases, the factors and offsets of norms, and layer scale have one dimension and do not decay;
    kernels of any kind do. Keras's own list of exclusions is lost when a model is saved and loaded;
    this rule is not. Source: the official `optim_factory.py`.

    With `gradient_accumulation_steps` a schedule and the EMA advance once an update; in Keras 3.15
    they advance at every step. With `use_ema` the EMA starts from the weights as they are when
    training begins, as in timm, and training leaves the weights themselves in the model.

    Args:
        *args: Arguments of the Keras optimizer that comes next among the bases.
        layer_decay: Factor on the learning rate from one group of layers to the next one nearer to
            the image, in (0, 1]; see `optimizers.layer_decay`. Weight decay shrinks with the rate,
            as in PyTorch. Defaults to `None`, one rate for all layers.
        layer_decay_rule: Which layers form a group: `"group"`, `"block"` or `"stage"`. Defaults to
            `"group"`.
        decay_vectors: Whether tensors of one dimension decay too. Defaults to `False`.
        **kwargs: Further arguments of that Keras optimizer.

    Raises:
        ValueError: If the factor is outside (0, 1], or the rule is unknown.
    """

    weight_decay: float | None

    def __init__(
        self,
        *args,
        layer_decay: float | None = None,
        layer_decay_rule: str = "group",
        decay_vectors: bool = False,
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
        super().__init__(*args, **kwargs)
        self.layer_decay = layer_decay
        self.layer_decay_rule = layer_decay_rule
        self.decay_vectors = decay_vectors
        self._lr_multipliers: list[float] = []

    def build(self, variables):
        super().build(variables)
        decay = 1.0 if self.layer_decay is None else self.layer_decay
        paths = [variable.path for variable in variables]
        self._lr_multipliers = lr_multipliers(paths, decay, self.layer_decay_rule)

    def update_step(self, gradient, variable, learning_rate):
        """Updates one weight and its slots.

        Args:
            gradient: Gradient of the weight.
            variable: The weight.
            learning_rate: Scalar tensor, the same for all weights.
        """
        lr_multiplier = self._lr_multipliers[self.index_of(variable)]
        gradient = ops.cast(gradient, variable.dtype)
        weight_decay = self._weight_decay_of(variable)
        self._apply_update(gradient, variable, learning_rate, lr_multiplier, weight_decay)

    def _weight_decay_of(self, variable) -> float:
        decays = self.decay_vectors or len(variable.shape) > 1
        return (self.weight_decay or 0.0) if decays and self.is_decayed(variable) else 0.0

    def _apply_update(
        self, gradient, variable, learning_rate, lr_multiplier: float, weight_decay: float
    ) -> None:
        direction = self._update_direction(gradient, variable, weight_decay)
        rate = ops.cast(learning_rate, variable.dtype) * lr_multiplier
        self.assign_sub(variable, rate * direction)

    def _update_direction(self, gradient, variable, weight_decay: float):
        """Updates the slots, and returns what is multiplied by the learning rate and subtracted."""
        raise NotImplementedError

    def get_config(self):
        return {
            **super().get_config(),
            "layer_decay": self.layer_decay,
            "layer_decay_rule": self.layer_decay_rule,
            "decay_vectors": self.decay_vectors,
        }
