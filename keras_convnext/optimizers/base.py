"""What the optimizers share: parameter groups, accumulation, and the weights' moving average."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_convnext.optimizers.layer_decay import BLOCKS_OF, layer_scales


class Step(NamedTuple):
    """What the weights' updates in one step have in common.

    It is worked out once a step: in TensorFlow's graph it would stand once a weight.

    Attributes:
        rate: The learning rate, a scalar tensor.
        sums: What `AdamW` divides each of its averages by; empty in other optimizers.
        kernel: What moves a weight and its averages in place; `None` where nothing does.
    """

    rate: Any
    sums: Sequence = ()
    kernel: Callable | None = None


class Optimizer(keras.optimizers.Optimizer):
    """An optimizer whose updates are those of the official code, in all but their direction.

    Biases, the scale and offset of norms and layer scale have one dimension and are left out of
    weight decay; kernels, of any kind, are decayed. Keras's own list of exclusions is lost when a
    model is saved and loaded; this rule is not. Source: the official `optim_factory.py`.

    With `gradient_accumulation_steps` the rate of a schedule and the moving average go on once an
    update. In Keras 3.15 both go on at every step, of which an update takes several.

    With `use_ema` the average starts from the weights as they are when training begins, as in timm,
    and training leaves the weights themselves in the model.

    Args:
        *args: Arguments of the Keras optimizer that comes next among the bases.
        layer_decay: Factor on the learning rate from one group of layers to the next one nearer to
            the image, in (0, 1], see `optimizers.layer_decay`. Weight decay shrinks with the
            rate, as in PyTorch. Defaults to `None`, one rate for all.
        layer_decay_rule: Which layers form a group: `"group"`, `"block"` or `"stage"`. Defaults to
            `"group"`.
        decay_vectors: Whether tensors of one dimension are decayed too. Defaults to `False`.
        **kwargs: Further arguments of that Keras optimizer.

    Raises:
        ValueError: If the factor or the rule is none of these.
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
        self._scales: list[float] = []

    def build(self, variables):
        with _outside_of_functions():
            super().build(variables)
        decay = 1.0 if self.layer_decay is None else self.layer_decay
        paths = [variable.path for variable in variables]
        self._scales = layer_scales(paths, decay, self.layer_decay_rule)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        # Keras hands what stands for the rate here on to `update_step`, weight by weight.
        super()._backend_update_step(grads, trainable_variables, self._step(learning_rate))

    def update_step(self, gradient, variable, step):
        scale = self._scales[self._get_variable_index(variable)]
        gradient = ops.cast(gradient, variable.dtype)
        self._move(gradient, variable, step, scale, self._decay_of(variable))

    def _step(self, rate) -> Step:
        """Returns what the weights' updates in one step have in common."""
        return Step(rate)

    def _move(self, gradient, variable, step: Step, scale: float, decay: float):
        """Makes the update of one weight, and of all that is kept for it."""
        rate = ops.cast(step.rate, variable.dtype) * scale
        self.assign_sub(variable, rate * self._update(gradient, variable, step, decay))

    def _update(self, gradient, variable, step: Step, decay: float):
        """Returns what the learning rate is multiplied with and then taken off the weight."""
        raise NotImplementedError

    def _decay_of(self, variable) -> float:
        decayed = self.decay_vectors or len(variable.shape) > 1
        return (self.weight_decay or 0.0) if decayed and self._use_weight_decay(variable) else 0.0

    def _apply_weight_decay(self, variables):
        """Does nothing: weight decay is a part of each update, where its group is known."""

    def _get_current_learning_rate(self):
        if isinstance(self._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            return self._learning_rate(self.iterations)
        return super()._get_current_learning_rate()

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
        steps = self.gradient_accumulation_steps or 1
        is_update = (self._iterations + 1) % steps == 0
        share = ops.where(is_update, 1 - self.ema_momentum, 0.0)
        for average, variable in self.averages(trainable_variables):
            difference = ops.cast(variable, average.dtype) - average
            average.assign(average + ops.cast(share, average.dtype) * difference)

    def finalize_variable_values(self, var_list):
        """Leaves the weights as they are; Keras would put their average in their place."""

    def get_config(self):
        return {
            **super().get_config(),
            "layer_decay": self.layer_decay,
            "layer_decay_rule": self.layer_decay_rule,
            "decay_vectors": self.decay_vectors,
        }


@contextlib.contextmanager
def _outside_of_functions():
    """Lifts what is built out of a function that TensorFlow traces.

    Built within one, as in the first step of training, the moments would start from zeros that the
    function keeps, as large as the moments themselves; and as a function that makes variables it
    would be traced once more, without them.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    def create(next_creator, **arguments):
        return next_creator(**{**arguments, "experimental_enable_variable_lifting": False})

    with tf.init_scope(), tf.variable_creator_scope(create):
        yield


def _value_of(variable):
    # A copy, since JAX gives away the arrays of a model in training: two must not share one.
    return lambda shape, dtype: ops.copy(ops.cast(variable, dtype))
