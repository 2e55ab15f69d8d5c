"""Updates under a strategy of `tf.distribute`, such as MirroredStrategy.

Keras 3.15 clips the gradients of each replica before it adds them up, and fails with gradient
accumulation and with `ema_overwrite_frequency`. Here each replica accumulates its own gradients
without sending anything. At an update they are added up, clipped, and applied.

Everything that a replica decides happens in the cross-replica function of a `merge_call`, since
`tf.cond` in a replica must not contain one. `keras_hooks` lists Keras's private names.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

_check_own = keras.optimizers.LossScaleOptimizer.check_finite


def is_replica() -> bool:
    """Whether the current call is one of the replicas of a strategy."""
    return tf.distribute.has_strategy() and not tf.distribute.in_cross_replica_context()


def can_merge() -> bool:
    """Whether the replicas of the current call can meet in a `merge_call`.

    They cannot where XLA compiles the train step, or on TPUs. The name is TensorFlow's own, for
    Keras (2.16 to 2.21).
    """
    return not tf.__internal__.distribute.strategy_supports_no_merge_call()


@contextlib.contextmanager
def creating_accumulators() -> Iterator[None]:
    """Creates variables whose value is the sum of those in the replicas.

    A checkpoint has the sum, whatever the number of replicas. Outside a strategy's scope variables
    are as ever.
    """
    if not tf.distribute.has_strategy():
        yield
        return

    def create(next_creator, **arguments):
        arguments["synchronization"] = tf.VariableSynchronization.ON_READ
        arguments["aggregation"] = tf.VariableAggregation.SUM
        return next_creator(**arguments)

    with tf.variable_creator_scope(create):
        yield


def save_zeros_between_updates(accumulator: keras.Variable, is_zero: Callable[[], bool]) -> None:
    """Lets one of several processes save an optimizer alone after an update.

    A value that is a sum over processes can only be read by all of them at once.

    Args:
        accumulator: The variable.
        is_zero: Function that returns whether its value is zero.
    """
    strategy = tf.distribute.get_strategy()
    if not tf.distribute.has_strategy() or _processes(strategy) == 1:
        return
    read = accumulator.numpy
    shape, dtype = accumulator.shape, accumulator.dtype

    def numpy():
        return tf.zeros(shape, dtype).numpy() if is_zero() else read()

    accumulator.numpy = numpy  # which Keras saves


def _processes(strategy):
    return strategy.num_replicas_in_sync // len(strategy.extended.worker_devices)


def check_finite_in_all_replicas() -> None:
    """Lets Keras's LossScaleOptimizer skip an update if gradients of any replica overflow.

    Keras 3.15 looks at those of the first replica only. Infinite gradients of another would end in
    the weights.
    """
    keras.optimizers.LossScaleOptimizer.check_finite = _check_all


def _check_all(optimizer, grads):
    finite = _check_own(optimizer, grads)
    if not is_replica() or not can_merge():
        return finite
    context = tf.distribute.get_replica_context()
    overflows = tf.where(finite, 0.0, 1.0)
    return tf.equal(context.all_reduce(tf.distribute.ReduceOp.SUM, overflows), 0.0)


def apply_gradients(
    optimizer, gradients: Sequence, variables: Sequence, accumulators: Sequence
) -> None:
    """Applies the gradients of this replica together with those of the others.

    Args:
        optimizer: The optimizer.
        gradients: Gradients of this replica's share of the loss.
        variables: The weights, as Keras variables.
        accumulators: Accumulated gradients of these weights, as Keras variables; none without
            gradient accumulation.
    """

    def update(strategy, gradients):
        def reduce(gradients):
            if accumulators:
                pairs = zip(gradients, accumulators, strict=True)
                steps = optimizer.gradient_accumulation_steps
                gradients = [
                    (part + tf.convert_to_tensor(earlier)) / steps for part, earlier in pairs
                ]
            context = tf.distribute.get_replica_context()
            return optimizer.clip(context.all_reduce(tf.distribute.ReduceOp.SUM, gradients))

        reduced = strategy.extended.call_for_each_replica(reduce, args=(gradients,))
        _update_weights(strategy, optimizer, reduced, variables)
        for accumulator in accumulators:
            _in_each(strategy, accumulator, lambda own: own.assign(tf.zeros_like(own)))

    def accumulate(strategy, gradients):
        for accumulator, gradient in zip(accumulators, gradients, strict=True):
            _in_each(strategy, accumulator, lambda own, part: own.assign_add(part), gradient)

    def update_or_accumulate(strategy, gradients):
        tf.cond(
            optimizer.is_update(),
            lambda: update(strategy, gradients),
            lambda: accumulate(strategy, gradients),
        )

    context = tf.distribute.get_replica_context()
    merged = update_or_accumulate if accumulators else update
    context.merge_call(merged, args=(list(gradients),))


def _update_weights(strategy, optimizer, gradients, variables):
    prepared = {}  # once for each device, so that nothing is sent between them

    def update(variable, gradient):
        if variable.device not in prepared:
            rate = optimizer.learning_rate
            prepared[variable.device] = rate, optimizer.prepare_update(rate)
        rate, shared = prepared[variable.device]
        with optimizer.sharing(shared):
            optimizer.update_step(gradient, variable, rate)

    for gradient, variable in zip(gradients, variables, strict=True):
        _in_each(strategy, variable, update, gradient)


def overwrite_with_ema(pairs: Sequence[tuple], is_due) -> None:
    """Replaces the weights by their EMA in all replicas if `is_due()` is true.

    Args:
        pairs: Pairs of a weight's EMA and the weight.
        is_due: Function that returns a scalar tensor.
    """

    def overwrite(strategy):
        for average, variable in pairs:
            _in_each(strategy, variable, lambda own, value: own.assign(value), average.value)

    def merged(strategy):
        tf.cond(is_due(), lambda: overwrite(strategy), lambda: None)

    tf.distribute.get_replica_context().merge_call(merged)


def _in_each(strategy, variable, function, *arguments):
    """Calls a function with each replica's own variable and arguments, on its device."""

    def call(own, *arguments):
        function(own, *arguments)

    strategy.extended.update(variable.value, call, args=arguments, group=False)
