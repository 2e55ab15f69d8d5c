"""Stochastic gradient descent with momentum, which ResNet-50 is trained with by tradition."""

import keras

from keras_convnext.optimizers.base import Optimizer


@keras.saving.register_keras_serializable(package="keras_convnext")
class SGD(Optimizer, keras.optimizers.SGD):
    """Gradient descent with momentum as PyTorch has it.

    The learning rate stands outside the momentum, so that a step of the schedule is felt at once;
    in Keras's own the momentum keeps the rate it was gathered with. Weight decay is added to the
    gradient and gathers momentum too. Source: `torch.optim.SGD`; values of "Deep Residual Learning
    for Image Recognition", He et al. 2016.

    Args:
        learning_rate: A number or a schedule. Defaults to 0.1, for batches of 256.
        momentum: What is kept of the former gradients, in [0, 1]. Defaults to 0.9.
        weight_decay: Share of the weight that is added to its gradient. Defaults to 1e-4.
        layer_decay: As of `AdamW`. Defaults to `None`, one rate for all.
        layer_decay_rule: As of `AdamW`. Defaults to `"group"`.
        decay_vectors: Whether tensors of one dimension are decayed too. Defaults to `False`;
            ResNet-50's own recipe decays them.
        **kwargs: Further arguments of `keras.optimizers.SGD`, such as `nesterov` and
            `global_clipnorm`; accumulation and the moving average are as of `AdamW`.

    Raises:
        ValueError: If `layer_decay` does not lie in (0, 1], or the rule is none of these.

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
