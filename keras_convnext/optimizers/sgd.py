"""Stochastic gradient descent with momentum, the original optimizer of ResNet-50."""

import keras

from keras_convnext.optimizers.base import Optimizer


@keras.saving.register_keras_serializable(package="keras_convnext")
class SGD(Optimizer, keras.optimizers.SGD):
    """Gradient descent with momentum as in PyTorch.

    The learning rate is applied after the momentum, so that a change of the rate has its full
    effect at once; in Keras's own the momentum contains earlier rates. Weight decay is added to the
    gradient, and so is part of the momentum. Source: `torch.optim.SGD`; values of "Deep Residual
    Learning for Image Recognition", He et al. 2016.

    Args:
        learning_rate: A number or a schedule. Defaults to 0.1, for batches of 256.
        momentum: Factor on the sum of earlier gradients, in [0, 1]. Defaults to 0.9.
        weight_decay: Share of the weight that is added to its gradient. Defaults to 1e-4.
        layer_decay: As in `AdamW`. Defaults to `None`, one rate for all layers.
        layer_decay_rule: As in `AdamW`. Defaults to `"group"`.
        decay_vectors: Whether tensors of one dimension decay too. Defaults to `False`; in
            ResNet-50's own recipe they do.
        **kwargs: Further arguments of `keras.optimizers.SGD`, such as `nesterov` and
            `global_clipnorm`. Gradient accumulation and the EMA work as in `AdamW`.

    Raises:
        ValueError: If `layer_decay` is outside (0, 1], or the rule is unknown.

    Example:
        >>> optimizer = keras_convnext.optimizers.SGD(0.1, momentum=0.9, decay_vectors=True)
        >>> model.compile(optimizer, loss="categorical_crossentropy")
    """

    momentum: float

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        layer_decay: float | None = None,
        layer_decay_rule: str = "group",
        decay_vectors: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(
            learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            layer_decay=layer_decay,
            layer_decay_rule=layer_decay_rule,
            decay_vectors=decay_vectors,
            **kwargs,
        )

    def _update_direction(self, gradient, variable, weight_decay):
        if weight_decay:
            gradient = gradient + weight_decay * variable
        if not self.momentum:
            return gradient
        momentum = self.slot(self.momentums, variable)
        self.assign(momentum, self.momentum * momentum + gradient)
        return gradient + self.momentum * momentum if self.nesterov else momentum
