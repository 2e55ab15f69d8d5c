"""The kernels when the batch is spread over four devices. Run by `test_batch_sharding.py`."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from gradients import largest_relative_error, random_tensors
from jax import export
from jax.sharding import NamedSharding, PartitionSpec
from several_devices import collectives, size_in_bytes

from keras_convnext import ConvNeXt
from keras_convnext.kernels import select
from keras_convnext.kernels.jax.onednn import calls, support
from keras_convnext.layers import Block
from keras_convnext.optimizers import AdamW

BATCH, SIDE, CHANNELS, CLASSES = 8, 6, 8, 5


@pytest.fixture(autouse=True)
def one_device_afterwards():
    yield
    keras.distribution.set_distribution(None)


@pytest.fixture(params=["oneDNN", "XLA"])
def matmuls_by(request, monkeypatch):
    if request.param == "oneDNN" and not support.has_onednn():
        pytest.skip("this jaxlib or CPU was not tested with oneDNN")
    if request.param == "XLA":
        devices = select._devices("jax") - {select.ONEDNN}
        monkeypatch.setattr(select, "_devices", lambda backend: devices)
    return request.param


def data_parallel():
    return keras.distribution.DataParallel()


def model_parallel():
    mesh = keras.distribution.DeviceMesh(
        (2, 2), ("batch", "model"), keras.distribution.list_devices()
    )
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[".*pointwise_conv_1/kernel"] = (None, "model")
    layouts[".*pointwise_conv_2/kernel"] = ("model", None)
    return keras.distribution.ModelParallel(layout_map=layouts)


def images(batch=BATCH, dtype="float32"):
    return random_tensors([(batch, SIDE, SIDE, CHANNELS)], dtype)[0]


def shard(x, distribution):
    mesh = distribution.device_mesh.backend_mesh
    return jax.device_put(x, NamedSharding(mesh, PartitionSpec("batch")))


def block_step(distribution, dtype="float32", rematerialize=False):
    """Returns a function of weights and images, with its gradients, and a block's weights."""
    keras.distribution.set_distribution(distribution)
    keras.utils.set_random_seed(0)
    with keras.RematScope("full" if rematerialize else None):
        block = keras.Sequential([Block(3, layer_scale_init_value=0.5, dtype=dtype)])
        block.build((None, SIDE, SIDE, CHANNELS))

    def loss(weights, x):
        outputs, _ = block.stateless_call(weights, [], x, training=True)
        return jnp.square(outputs.astype("float32")).sum()

    weights = [variable.value for variable in block.trainable_variables]
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1))), weights


def assert_close(actual, expected, tolerance=2e-6):
    actual, expected = jax.tree.map(np.asarray, (actual, expected))
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert largest_relative_error(one, other) < tolerance


@pytest.mark.parametrize("rematerialize", [False, True])
@pytest.mark.parametrize("distribution", [data_parallel, model_parallel])
def test_a_block_has_the_values_and_gradients_of_one_device(
    distribution, rematerialize, matmuls_by
):
    step, weights = block_step(None)
    expected = step(weights, images())
    spread = distribution()
    step, weights = block_step(spread, rematerialize=rematerialize)
    assert_close(step(weights, shard(images(), spread)), expected)


def test_in_half_precision_sums_over_devices_are_as_exact(matmuls_by):
    step, weights = block_step(None, "mixed_bfloat16")
    expected = step(weights, images(dtype="bfloat16"))
    spread = data_parallel()
    step, weights = block_step(spread, "mixed_bfloat16")
    assert_close(step(weights, shard(images(dtype="bfloat16"), spread)), expected, 2e-2)


def test_onednn_computes_each_devices_images():
    if not support.has_onednn():
        pytest.skip("this jaxlib or CPU was not tested with oneDNN")
    spread = data_parallel()
    step, weights = block_step(spread)
    text = step.lower(weights, shard(images(), spread)).as_text()
    assert calls.MATMUL in text
    assert calls.CONVOLUTION in text


def test_arrays_without_a_distribution_do_not_meet_onednn():
    step, weights = block_step(None)
    assert "__onednn" not in step.lower(weights, images()).as_text()


def test_a_batch_that_cannot_be_shared_is_computed_whole():
    step, weights = block_step(None)
    expected = step(weights, images(6))
    step, weights = block_step(data_parallel())
    assert_close(step(weights, images(6)), expected)


def test_without_compilation():
    keras.distribution.set_distribution(None)
    block = Block(3, layer_scale_init_value=0.5)
    block.build((None, SIDE, SIDE, CHANNELS))
    expected = np.asarray(block(images()))
    keras.distribution.set_distribution(data_parallel())
    assert_close(block(images()), expected)


def test_vectorized():
    block = Block(3, layer_scale_init_value=0.5)
    block.build((None, SIDE, SIDE, CHANNELS))
    pairs = jnp.stack([images(), 2 * images()])
    expected = jnp.stack([block(some) for some in pairs])
    keras.distribution.set_distribution(data_parallel())
    assert_close(jax.vmap(block)(pairs), expected)


def test_gradients_of_gradients():
    def penalty(distribution):
        step, weights = block_step(distribution)
        x = images() if distribution is None else shard(images(), distribution)
        gradients = jax.jit(jax.grad(lambda w: sum(jnp.sum(g**2) for g in step(w, x)[1][0])))
        return gradients(weights)

    assert_close(penalty(data_parallel()), penalty(None), 1e-5)


def test_an_export_of_any_batch_size_is_for_one_device():
    keras.distribution.set_distribution(data_parallel())
    block = Block(3)
    block.build((None, SIDE, SIDE, CHANNELS))
    weights = [np.asarray(variable.value) for variable in block.variables]
    size = export.symbolic_shape(f"batch, {SIDE}, {SIDE}, {CHANNELS}")
    exported = export.export(jax.jit(lambda x: block.stateless_call(weights, [], x)[0]))(
        jax.ShapeDtypeStruct(size, "float32")
    )
    assert exported.nr_devices == 1
    assert_close(exported.call(np.asarray(images())), block(images()))


def network():
    keras.utils.set_random_seed(0)
    model = ConvNeXt(
        (1, 1),
        (8, 16),
        kernel_size=3,
        input_shape=(16, 16, 3),
        classes=CLASSES,
        classifier_activation=None,
        drop_path_rate=0.3,
        layer_scale_init_value=0.5,
    )
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(AdamW(1e-3, weight_decay=0.05, global_clipnorm=1.0), loss)
    model.optimizer.build(model.trainable_variables)
    labels = np.zeros((BATCH, CLASSES), "float32")
    model.compute_loss(y=labels, y_pred=labels)  # builds the loss
    return model


def batch_for(distribution):
    x, y = random_tensors([(BATCH, 16, 16, 3), (BATCH, CLASSES)])
    return shard(x, distribution), shard(y, distribution)


def train_step(model, batch):
    """Returns the compiled program of a train step, as Keras compiles it."""
    state = [
        [variable.value for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    ]
    shardings = jax.tree.map(lambda x: x.sharding, state)
    step = jax.jit(model.train_step, donate_argnums=0, out_shardings=(None, tuple(shardings)))
    return step.lower(tuple(state), batch).compile().as_text()


def test_inference_sends_nothing():
    distribution = data_parallel()
    keras.distribution.set_distribution(distribution)
    model = network()
    weights = [variable.value for variable in model.trainable_variables]
    state = [variable.value for variable in model.non_trainable_variables]
    forward = jax.jit(lambda w, s, x: model.stateless_call(w, s, x, training=False)[0])
    program = forward.lower(weights, state, batch_for(distribution)[0]).compile().as_text()
    assert "fusion" in program  # the search is in a program
    assert collectives(program) == []


@pytest.mark.parametrize("implementation", ["kernels", "references"])
def test_a_train_step_sends_the_gradients_once(implementation, monkeypatch):
    if implementation == "references":  # those are used on GPUs, for convolutions
        monkeypatch.setenv("KERAS_CONVNEXT_KERNELS", "reference")
    distribution = data_parallel()
    keras.distribution.set_distribution(distribution)
    model = network()
    sent = collectives(train_step(model, batch_for(distribution)))
    assert {operation for operation, _ in sent} == {"all-reduce"}
    arrays = [array for _, arrays in sent for array in arrays]
    scalars = size_in_bytes(array for array in arrays if np.prod(array[1]) == 1)
    gradients = sum(4 * int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert size_in_bytes(arrays) - scalars == gradients
    assert scalars < 100


def test_model_parallelism_gathers_no_activation():
    distribution = model_parallel()
    keras.distribution.set_distribution(distribution)
    model = network()
    sent = collectives(train_step(model, batch_for(distribution)))
    gathered = [array for name, arrays in sent if name != "all-reduce" for array in arrays]
    assert not [shape for _, shape in gathered if len(shape) == 4]
