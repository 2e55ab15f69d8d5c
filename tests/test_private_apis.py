"""Canaries: every private name that the package relies on exists and still does what is expected.

A failure here means that Keras, JAX, TensorFlow or PyTorch changed something without a public name.
The files named below say why each name is needed.
"""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from keras_convnext import keras_private
from keras_convnext.layers import Block
from keras_convnext.optimizers import LAMB, SGD, AdamW

BACKEND = keras.backend.backend()
only_jax = pytest.mark.skipif(BACKEND != "jax", reason="these names are JAX's")
only_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="these are TensorFlow's")
only_torch = pytest.mark.skipif(BACKEND != "torch", reason="these names are PyTorch's")
every_optimizer = pytest.mark.parametrize("kind", [AdamW, LAMB, SGD])


def number(x):
    return float(ops.convert_to_numpy(x))


def built(kind, *arguments, **named):
    """Returns an optimizer, a matrix and a vector that it updates."""
    variables = [keras.Variable(np.ones(shape, "float32")) for shape in ((3, 4), (4,))]
    optimizer = kind(*arguments, **named)
    optimizer.build(variables)
    return optimizer, variables


def apply(optimizer, variables, value):
    optimizer.apply([ops.full(variable.shape, value) for variable in variables], variables)


class TestHooksOfOptimizers:
    """optimizers/keras_hooks.py"""

    @every_optimizer
    def test_vectors_do_not_decay_and_matrices_decay_once(self, kind):
        optimizer, (matrix, vector) = built(kind, 0.1, weight_decay=0.5)
        apply(optimizer, [matrix, vector], 0.0)
        np.testing.assert_array_equal(ops.convert_to_numpy(vector), np.ones(4))
        # LAMB scales the update to the length of the weight.
        expected = 1 - 0.1 if kind is LAMB else 1 - 0.1 * 0.5
        np.testing.assert_allclose(ops.convert_to_numpy(matrix), expected, rtol=1e-6)

    @every_optimizer
    def test_keras_applies_weight_decay_through_our_method(self, kind, monkeypatch):
        calls = []
        monkeypatch.setattr(kind, "_apply_weight_decay", lambda self, _: calls.append(1))
        apply(*built(kind, 0.1, weight_decay=0.5), 1.0)
        assert calls == [1]

    @every_optimizer
    def test_exclusions_from_weight_decay_count(self, kind):
        variables = [keras.Variable(np.ones((3, 4), "float32"), name=name) for name in "ab"]
        optimizer = kind(0.1, weight_decay=0.5)
        optimizer.exclude_from_weight_decay(var_names=["b"])
        apply(optimizer, variables, 0.0)
        assert number(variables[0][0, 0]) < 1
        assert number(variables[1][0, 0]) == 1

    @every_optimizer
    def test_what_weights_share_is_prepared_once_an_update(self, kind, monkeypatch):
        prepared, seen = [], []
        prepare, update = kind.prepare_update, kind.update_step

        def record_prepare(self, learning_rate):
            prepared.append(learning_rate)
            return prepare(self, learning_rate)

        def record_update(self, gradient, variable, learning_rate):
            seen.append(learning_rate)
            assert kind is SGD or self.shared is not None
            update(self, gradient, variable, learning_rate)

        monkeypatch.setattr(kind, "prepare_update", record_prepare)
        monkeypatch.setattr(kind, "update_step", record_update)
        optimizer, variables = built(kind, 0.125)
        apply(optimizer, variables, 1.0)
        assert [number(rate) for rate in prepared] == [0.125]
        assert [number(rate) for rate in seen] == [0.125, 0.125]  # a number, for each weight
        assert optimizer.shared is None

    @every_optimizer
    def test_a_schedule_counts_updates(self, kind):
        schedule = keras.optimizers.schedules.PolynomialDecay(1.0, 10, 0.0)
        optimizer, variables = built(kind, schedule, gradient_accumulation_steps=2)
        rates = []
        for _ in range(4):
            rates.append(number(optimizer.learning_rate))
            apply(optimizer, variables, 1.0)
        np.testing.assert_allclose(rates, [1.0, 1.0, 0.9, 0.9], rtol=1e-6)

    @only_torch
    @every_optimizer
    def test_gradients_that_are_sums_are_not_added_up(self, kind):
        found = []
        for are_sums in (False, True):
            optimizer, variables = built(kind, 0.1, gradient_accumulation_steps=2)
            optimizer.gradients_are_sums = are_sums
            for step, value in enumerate([1.0, 3.0 if are_sums else 2.0]):
                assert optimizer.accumulated_steps() == step
                apply(optimizer, variables, value)
            assert optimizer.accumulated_steps() == 0
            found.append([ops.convert_to_numpy(variable) for variable in variables])
        for added, passed in zip(*found, strict=True):
            np.testing.assert_array_equal(added, passed)

    @every_optimizer
    def test_the_ema_starts_from_the_weights_and_moves_once_an_update(self, kind):
        optimizer, variables = built(
            kind, 0.1, use_ema=True, ema_momentum=0.5, gradient_accumulation_steps=2
        )
        averages = [average for average, _ in optimizer.ema_pairs(variables)]
        for average in averages:
            np.testing.assert_array_equal(ops.convert_to_numpy(average), 1)
        apply(optimizer, variables, 1.0)
        for average in averages:
            np.testing.assert_array_equal(ops.convert_to_numpy(average), 1)
        apply(optimizer, variables, 1.0)
        for average, variable in zip(averages, variables, strict=True):
            expected = (1 + ops.convert_to_numpy(variable)) / 2
            np.testing.assert_allclose(ops.convert_to_numpy(average), expected, rtol=1e-6)
            assert np.all(expected < 1)

    @pytest.mark.parametrize(
        ("kind", "named", "slots"),
        [
            (AdamW, {"amsgrad": True}, ["momentum", "velocity", "velocity_hat"]),
            (LAMB, {}, ["momentum", "velocity"]),
            (SGD, {}, ["momentum"]),
        ],
    )
    def test_slots_keep_the_names_that_files_have(self, kind, named, slots):
        optimizer, variables = built(kind, 0.1, use_ema=True, **named)
        names = [variable.path.rpartition("_")[2] for variable in optimizer.variables]
        paths = [variable.path for variable in optimizer.variables]
        assert len(paths) == 2 + 2 * (len(slots) + 1), names
        for slot in ("average", *slots):
            assert sum(path.endswith(f"_{slot}") for path in paths) >= 2, (slot, paths)
        assert [optimizer.index_of(variable) for variable in variables] == [0, 1]

    @pytest.mark.parametrize("amsgrad", [False, True])
    def test_the_moments_are_keras_own(self, amsgrad):
        optimizer, variables = built(AdamW, 0.1, amsgrad=amsgrad)
        apply(optimizer, variables, 2.0)
        exp_avg, exp_avg_sq, max_exp_avg_sq = optimizer._moments(variables[0])
        assert number(exp_avg[0, 0]) == pytest.approx(2 * (1 - optimizer.beta_1), rel=1e-5)
        assert number(exp_avg_sq[0, 0]) == pytest.approx(4 * (1 - optimizer.beta_2), rel=1e-4)
        assert (max_exp_avg_sq is not None) == amsgrad


class TestKeras:
    """keras_private.py"""

    def test_a_stateless_scope_is_noticed(self):
        assert not keras_private.is_stateless()
        with keras.StatelessScope():
            assert keras_private.is_stateless()

    def test_weights_are_read_as_stored_without_autocast(self):
        assert keras_private.AutocastScope is not None
        dtypes = []

        class Reader(keras.layers.Dense):
            def call(self, inputs):
                dtypes.append(ops.convert_to_tensor(self.kernel).dtype)
                with keras_private.without_autocast():
                    dtypes.append(ops.convert_to_tensor(self.kernel).dtype)
                return super().call(inputs)

        Reader(2, dtype="mixed_bfloat16")(np.ones((1, 3), "float32"))
        assert list(map(keras.backend.standardize_dtype, dtypes)) == ["bfloat16", "float32"]

    def test_a_block_works_where_autocast_cannot_be_turned_off(self, monkeypatch):
        images = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype("float32")
        block = Block(3, layer_scale_init_value=0.5, dtype="mixed_bfloat16")
        expected = ops.convert_to_numpy(ops.cast(block(images), "float32"))
        monkeypatch.setattr(keras_private, "AutocastScope", None)
        result = ops.convert_to_numpy(ops.cast(block(images), "float32"))
        np.testing.assert_allclose(result, expected, rtol=2e-2, atol=2e-2)

    def test_the_layers_of_a_layer_are_listed(self):
        block = Block(3)
        block.build((None, 8, 8, 4))
        flat = keras_private.flatten_layers(block)
        assert flat[0] is block
        assert block.norm in flat and block.pointwise_conv_2 in flat
        assert block not in keras_private.flatten_layers(block, include_self=False)
        model = keras.Sequential([block])
        assert block.norm not in keras_private.flatten_layers(model, recursive=False)

    @pytest.mark.parametrize("is_sequential", [True, False])
    def test_the_tensors_of_a_nested_model_are_those_of_the_outer_graph(self, is_sequential):
        inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        head = keras.layers.Dense(2)
        if is_sequential:
            outer = keras.Sequential([keras.Input((4,)), inner, head])
        else:
            images = keras.Input((4,))
            outer = keras.Model(images, head(inner(images)))
        taken, given = keras_private.tensors_of(inner, outer)
        assert taken is outer.inputs[0]
        assert given is keras_private.tensors_of(head, outer)[0] and given is not inner.outputs[0]


@only_jax
class TestJAX:
    def test_every_batch_can_have_its_own_layout(self, monkeypatch):
        """distribution/jax/keras_private.py"""
        from keras_convnext.distribution.jax.keras_private import layouts_of_each_batch

        distribution = keras.distribution.DataParallel()
        get_layout, sizes = distribution.get_data_layout, []

        def record(shape):
            sizes.append(shape[0])
            return get_layout(shape)

        monkeypatch.setattr(distribution, "get_data_layout", record)
        with distribution.scope(), layouts_of_each_batch():
            model = keras.Sequential([keras.layers.Dense(1)])
            model.compile(loss="mse")
            model.evaluate(np.ones((5, 2)), np.ones((5, 1)), batch_size=2, verbose=0)
        assert set(sizes) == {2, 1}

    def test_processes_can_lay_out_variables_alone(self, monkeypatch):
        """distribution/jax/keras_private.py"""
        import jax

        from keras_convnext.distribution.jax.keras_private import own_copies_of_variables

        make_array, made = jax.make_array_from_callback, []

        def record(*arguments):
            made.append(arguments)
            return make_array(*arguments)

        monkeypatch.setattr(jax, "make_array_from_callback", record)
        with keras.distribution.DataParallel().scope(), own_copies_of_variables():
            variable = keras.Variable(np.zeros(3))
            variable.assign(np.arange(3.0))
        assert len(made) == 2
        np.testing.assert_array_equal(variable.value, [0, 1, 2])

    def test_the_event_of_a_compilation_is_recorded(self):
        """kernels/jax/compiler_memory.py"""
        import jax

        from keras_convnext.kernels.jax.compiler_memory import COMPILED

        events = []

        def listener(event, duration_secs, **_):
            events.append(event)

        jax.monitoring.register_event_duration_secs_listener(listener)
        jax.jit(lambda x: x * 3 + 1).lower(1.0).compile()
        jax.monitoring.unregister_event_duration_listener(listener)
        assert COMPILED in events

    def test_a_lowering_knows_whether_it_is_for_an_export(self):
        """kernels/jax/onednn/calls.py"""
        import jax
        from jax import export
        from jax.extend.core import Primitive
        from jax.interpreters import mlir

        probe, seen = Primitive("probe"), []

        def lower(context, x):
            seen.append(context.module_context.lowering_parameters.for_export)
            return [x]

        probe.def_abstract_eval(lambda x: x)
        mlir.register_lowering(probe, lower)
        function = jax.jit(probe.bind)
        function.lower(1.0)
        export.export(function)(jax.ShapeDtypeStruct((), "float32"))
        assert [bool(x) for x in seen] == [False, True]


@only_tensorflow
def test_variables_of_an_optimizer_are_created_outside_of_a_traced_function(monkeypatch):
    """optimizers/keras_hooks.py"""
    import tensorflow as tf

    lifting = []
    variable_of = tf.Variable

    def record(next_creator, **arguments):
        lifting.append(arguments.get("experimental_enable_variable_lifting"))
        return next_creator(**arguments)

    variable = keras.Variable(np.ones((3, 4)))
    optimizer = AdamW(1e-3)
    with tf.variable_creator_scope(record):
        step = tf.function(lambda: optimizer.apply([tf.ones((3, 4))], [variable]))
        step()
    assert lifting and not any(lifting)
    assert all(isinstance(x.value, variable_of) for x in optimizer.variables)
    assert step.experimental_get_tracing_count() == 1


@only_tensorflow
class TestStrategiesOfTensorFlow:
    """optimizers/tensorflow_replicas.py; distribution/tensorflow/keras_build.py and batches.py"""

    def train(self, **named):
        """Trains a dense layer on one device, under a strategy."""
        import tensorflow as tf

        with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
            model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
            model.compile(SGD(0.1, **named), "mse")
        build = model._maybe_symbolic_build
        self.builds = []

        def record(iterator=None, data_batch=None):
            self.builds.append(iterator is not None)
            build(iterator=iterator, data_batch=data_batch)

        object.__setattr__(model, "_maybe_symbolic_build", record)
        model.fit(np.ones((8, 3)), np.ones((8, 2)), batch_size=4, verbose=0)
        return model

    def test_gradients_are_clipped_and_accumulated_through_our_methods(self, monkeypatch):
        calls = []
        clip = SGD._clip_gradients
        monkeypatch.setattr(
            SGD, "_clip_gradients", lambda self, grads: calls.append(1) or clip(self, grads)
        )
        model = self.train(global_clipnorm=1.0, gradient_accumulation_steps=2)
        assert calls == [1]  # traced once
        assert number(model.optimizer.iterations) == 1

    def test_fit_creates_variables_from_a_first_batch(self):
        self.train()
        assert self.builds == [True]

    def test_the_number_of_steps_of_a_distributed_dataset_can_be_set(self):
        import tensorflow as tf

        from keras_convnext.distribution.tensorflow.batches import set_steps

        strategy = tf.distribute.MirroredStrategy(["CPU:0"])
        dataset = strategy.distribute_datasets_from_function(lambda _: tf.data.Dataset.range(6))
        assert dataset.cardinality == 6
        set_steps(dataset, 3)
        assert dataset.cardinality == 3

    def test_loss_scaling_asks_whether_gradients_are_finite(self):
        from keras_convnext.optimizers import tensorflow_replicas

        inner = SGD(0.1)
        inner.build([keras.Variable(np.ones(3))])
        wrapped = keras.optimizers.LossScaleOptimizer
        assert wrapped.check_finite is tensorflow_replicas._check_all
        assert not number(wrapped(inner).check_finite([ops.convert_to_tensor([1.0, np.inf])]))
        assert number(wrapped(inner).check_finite([ops.ones(2)]))


@only_torch
class TestPyTorch:
    """kernels/torch/private.py and layers/part_watch.py"""

    def test_the_names_exist(self):
        import torch
        from torch.autograd import forward_ad

        assert hasattr(torch.ops.mkldnn, "_linear_pointwise")
        assert hasattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported")
        assert hasattr(torch, "_fused_adamw_")
        assert hasattr(torch._C, "_are_functorch_transforms_active")
        assert hasattr(torch._C, "_current_graph_task_id")
        assert isinstance(forward_ad._current_level, int)

    @pytest.mark.parametrize("with_gelu", [False, True])
    def test_linear_pointwise_has_a_public_fallback(self, with_gelu, monkeypatch):
        import torch

        from keras_convnext.kernels.torch import private

        torch.manual_seed(0)
        arguments = torch.randn(3, 5), torch.randn(4, 5), torch.randn(4), with_gelu
        expected = private.linear_pointwise(*arguments)
        without = SimpleNamespace(ops=SimpleNamespace(mkldnn=SimpleNamespace()))
        monkeypatch.setattr(private, "torch", without)
        torch.testing.assert_close(private.linear_pointwise(*arguments), expected)
        assert private.onednn_supports_bfloat16() is False

    @pytest.mark.parametrize("amsgrad", [False, True])
    def test_the_fused_adamw_has_a_public_fallback(self, amsgrad, monkeypatch):
        from keras_convnext.kernels.torch import private

        results = []
        for _ in range(2):
            optimizer, variables = built(AdamW, 0.1, weight_decay=0.5, amsgrad=amsgrad)
            for value in (1.0, -0.5, 2.0):
                apply(optimizer, variables, value)
            state = [*variables, *optimizer.variables]
            results.append([ops.convert_to_numpy(x).copy() for x in state])
            monkeypatch.setattr(private, "torch", SimpleNamespace())
        for result, expected in zip(*results, strict=True):
            np.testing.assert_allclose(result, expected, rtol=1e-6)

    def test_plain_operations_are_used_where_transforms_cannot_be_noticed(self, monkeypatch):
        import torch

        from keras_convnext.kernels.torch import private

        block = Block(3, layer_scale_init_value=0.5)
        images = ops.convert_to_tensor(np.ones((2, 8, 8, 4), "float32"))
        expected = block(images, training=True)
        monkeypatch.delattr(torch._C, "_are_functorch_transforms_active")
        assert private.transforms_are_active()
        torch.testing.assert_close(block(images, training=True), expected)

    @pytest.mark.parametrize("is_known", [True, False])
    def test_draws_are_repeated_where_a_backward_pass_cannot_be_noticed(
        self, is_known, monkeypatch
    ):
        import torch
        from torch.utils.checkpoint import checkpoint

        from keras_convnext.kernels.torch import draws

        if not is_known:
            monkeypatch.setattr(draws, "is_in_backward_pass", lambda: None)
        repeatable, drawn = draws.RepeatableDraws(), []

        def function(x):
            drawn.append(repeatable(lambda: torch.from_numpy(np.random.normal(size=3))))
            return (x * drawn[-1]).sum()

        leaf = torch.ones(3, dtype=torch.float64, requires_grad=True)
        checkpoint(function, leaf, use_reentrant=False).backward()
        assert len(drawn) == 2
        torch.testing.assert_close(drawn[0], drawn[1])
        torch.testing.assert_close(leaf.grad, drawn[0])

    def test_hooks_of_a_layer_are_kept_under_the_names_that_are_watched(self):
        from keras_convnext.layers.part_watch import HOOKS

        layer = keras.layers.Dense(2)
        layer.build((None, 3))
        registrations = (
            layer.register_forward_pre_hook,
            layer.register_forward_hook,
            layer.register_full_backward_pre_hook,
            layer.register_full_backward_hook,
        )
        for name, register in zip(HOOKS, registrations, strict=True):
            kept = layer.__dict__[name]
            assert not kept
            register(lambda *_: None)
            assert len(kept) == 1, name
