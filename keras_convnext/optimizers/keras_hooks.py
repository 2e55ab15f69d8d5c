"""What Keras has no public name for and the optimizers need, in one place.

Tested with Keras 3.9 to 3.15. `Hooks` overrides or calls these private names; everything else in
the optimizers uses public ones. If Keras renamed one, results would change without an error, so
`tests/test_private_apis.py` checks that each is really called.

| Private name | Why |
|---|---|
| `_backend_apply_gradients` | replicas must add up gradients before clipping; see below |
| `_clip_gradients`, `_accumulated_gradients`, `_trainable_variables` | the same |
| the slot name `"gradient_accumulator"` | the same |
| `_backend_update_step` | computes once what all weights of an update share |
| `_apply_weight_decay` | Keras would decay all weights alike, before their updates |
| `_use_weight_decay` | honours `exclude_from_weight_decay` |
| `_get_current_learning_rate`, `_learning_rate` | a schedule must count updates, not steps |
| `_backend_increment_gradient_accumulators` | gradients may be accumulated already |
| `_update_model_variables_moving_average` | the EMA must move once an update, not once a step |
| `_model_variables_moving_average`, `_iterations` | the EMA and the number of steps |
| the slot name `"average"` | the EMA must start from the weights |
| `_get_variable_index` | finds a weight's slots and learning-rate multiplier |

On TensorFlow, replicas of a `tf.distribute` strategy apply gradients in `tensorflow_replicas`.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops


class Hooks(keras.optimizers.Optimizer):
    """A Keras optimizer that makes these names usable without an underscore.

    Keras calls `apply`, which clips gradients, accumulates them, and calls `update_step` for each
    weight. With gradient accumulation an update takes several steps, and Keras 3.15 advances a
    schedule and the EMA at every step; here both advance once an update.
    """

    # Whether each gradient passed includes those of the update's earlier steps, so that there is
    # nothing to add to. See `distribution/torch/data_parallel.py`.
    gradients_are_sums: bool = False
    _shared: Any = None

    def prepare_update(self, learning_rate) -> Any:
        """Returns what the updates of all weights share; `shared` while they are made.

        Args:
            learning_rate: Scalar tensor.
        """
        return None

    @property
    def shared(self) -> Any:
        """What `prepare_update` returned for the current update."""
        return self._shared

    def accumulated_steps(self) -> int:
        """Returns how many steps of the next update have been made."""
        return int(ops.convert_to_numpy(self._iterations)) % (self.gradient_accumulation_steps or 1)

    def index_of(self, variable) -> int:
        """Returns the position of a weight among those the optimizer was built with."""
        return self._get_variable_index(variable)

    def slot(self, slots: Sequence, variable):
        """Returns the weight's own of a list of slot variables, such as moments.

        On TensorFlow it is the backend's variable, like the weight itself within an update, which
        is changed in place without a copy.
        """
        slot = slots[self.index_of(variable)]
        return slot.value if keras.backend.backend() == "tensorflow" else slot

    def is_decayed(self, variable) -> bool:
        """Whether `exclude_from_weight_decay` leaves the weight decayed."""
        return self._use_weight_decay(variable)

    def ema_pairs(self, variables: Sequence) -> list[tuple]:
        """Returns pairs of a weight's EMA and the weight; none without `use_ema`.

        Args:
            variables: The trained weights, in the order the optimizer was built with.
        """
        if not self.use_ema:
            return []
        return list(zip(self._model_variables_moving_average, variables, strict=True))

    def build(self, variables):
        if keras.backend.backend() == "tensorflow":
            from keras_convnext.optimizers import tensorflow_replicas

            tensorflow_replicas.check_finite_in_all_replicas()
        with _outside_of_traced_functions():
            super().build(variables)

    def add_variable_from_reference(self, reference_variable, name=None, initializer="zeros"):
        if name == "gradient_accumulator" and keras.backend.backend() == "tensorflow":
            from keras_convnext.optimizers import tensorflow_replicas

            with tensorflow_replicas.creating_accumulators():
                accumulator = super().add_variable_from_reference(
                    reference_variable, name=name, initializer=initializer
                )
            tensorflow_replicas.save_zeros_between_updates(
                accumulator, lambda: self.accumulated_steps() == 0
            )
            return accumulator
        if name == "average":
            # The EMA starts from the weights. Keras would start it from zero, and set it to the
            # weights after the first update.
            initializer = _copy_of(reference_variable)
        return super().add_variable_from_reference(
            reference_variable, name=name, initializer=initializer
        )

    def finalize_variable_values(self, var_list):
        """Leaves the weights as they are; Keras would replace them by their EMA after training."""

    def _backend_apply_gradients(self, grads, trainable_variables):
        if keras.backend.backend() == "tensorflow":
            from keras_convnext.optimizers import tensorflow_replicas

            if tensorflow_replicas.is_replica():
                self._apply_in_replica(tensorflow_replicas, grads, trainable_variables)
                return
        super()._backend_apply_gradients(grads, trainable_variables)

    def _apply_in_replica(self, replicas, gradients, variables):
        if not replicas.can_merge():
            raise NotImplementedError(
                "The optimizers of keras_convnext do not support `jit_compile=True` under a "
                "strategy of tf.distribute, nor TPUs. Compile the model without `jit_compile`."
            )
        accumulators = []
        if self.gradient_accumulation_steps:
            accumulators = [self._accumulated_gradients[self.index_of(v)] for v in variables]
        replicas.apply_gradients(self, gradients, variables, accumulators)
        if self.use_ema:
            self._update_model_variables_moving_average(self._trainable_variables)
            if self.ema_overwrite_frequency:
                pairs = self.ema_pairs(self._trainable_variables)
                replicas.overwrite_with_ema(pairs, self._is_overwritten)

    def _is_overwritten(self):
        return (self.iterations + 1) % self.ema_overwrite_frequency == 0

    def is_update(self):
        """Returns whether the current step ends an update, as a scalar tensor."""
        return (self._iterations + 1) % (self.gradient_accumulation_steps or 1) == 0

    def clip(self, gradients: Sequence) -> Sequence:
        """Returns the gradients, clipped as the optimizer's arguments say."""
        return self._clip_gradients(gradients)

    def _backend_increment_gradient_accumulators(self, grads, acc_grads):
        if not self.gradients_are_sums:
            super()._backend_increment_gradient_accumulators(grads, acc_grads)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        with self.sharing(self.prepare_update(learning_rate)):
            super()._backend_update_step(grads, trainable_variables, learning_rate)

    @contextlib.contextmanager
    def sharing(self, value: Any) -> Iterator[None]:
        """Makes a result of `prepare_update` the value of `shared`."""
        object.__setattr__(self, "_shared", value)  # TensorFlow would wrap it to track it
        try:
            yield
        finally:
            object.__setattr__(self, "_shared", None)  # it may hold tensors of a traced function

    def _apply_weight_decay(self, variables):
        """Does nothing: weight decay is part of each update, where the multiplier is known."""

    def _get_current_learning_rate(self):
        if isinstance(self._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            return self._learning_rate(self.iterations)
        return super()._get_current_learning_rate()

    def _update_model_variables_moving_average(self, trainable_variables):
        rate = ops.where(self.is_update(), 1 - self.ema_momentum, 0.0)
        for average, variable in self.ema_pairs(trainable_variables):
            difference = ops.cast(variable, average.dtype) - average
            average.assign(average + ops.cast(rate, average.dtype) * difference)


@contextlib.contextmanager
def _outside_of_traced_functions() -> Iterator[None]:
    """Creates variables outside the function that TensorFlow traces.

    Built inside `tf.function`, as in the first step of training, slots would be baked into the
    graph as constants, and TensorFlow would trace the function twice. The argument
    `experimental_enable_variable_lifting` is TensorFlow's own (2.16 to 2.21).
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    def create(next_creator, **arguments):
        return next_creator(**{**arguments, "experimental_enable_variable_lifting": False})

    with tf.init_scope(), tf.variable_creator_scope(create):
        yield


def _copy_of(variable):
    # A copy, since JAX donates the arrays of a model in training: two must not share one.
    return lambda shape, dtype: ops.copy(ops.cast(variable, dtype))
