import keras
import numpy as np
import pytest
from keras.dtype_policies import DTypePolicyMap

from keras_convnext.layers import Block
from keras_convnext.models import ConvNeXt

IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
# Keras says of every layer without an integer form that it has none.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Layer .* does not have a `quantize` method:UserWarning"
)
every_mode = pytest.mark.parametrize("mode", ["int8", "int4", "float8"])


def test_an_int8_model_is_close_and_comes_back_from_its_file(tmp_path):
    sizes = {"depths": (1, 1), "dims": (8, 16), "layer_scale_init_value": 0.5}
    model = ConvNeXt(**sizes, input_shape=(32, 32, 3), classes=5, classifier_activation=None)
    exact = model.predict(IMAGES, verbose=0)
    model.quantize("int8")
    quantized = model.predict(IMAGES, verbose=0)
    assert 0 < np.abs(quantized - exact).max() < 0.02 * np.abs(exact).max()

    for _ in range(2):  # what was loaded is saved and loaded again
        model.save(tmp_path / "int8.keras")
        model = keras.saving.load_model(tmp_path / "int8.keras")
        assert model.get_layer("stages_1_blocks_0").pointwise_conv_1.quantization_mode == "int8"
        np.testing.assert_array_equal(model.predict(IMAGES, verbose=0), quantized)


def small(mode=None):
    """A network of two blocks, quantized, and its result."""
    model = ConvNeXt(
        (1, 1), (4, 8), kernel_size=3, input_shape=(16, 16, 3), classes=2, name="small"
    )
    if mode is not None:
        model.quantize(mode)
    return model


def renamed(layer):
    config = layer.get_config()
    return type(layer).from_config({**config, "name": f"other_{config['name']}"})


def modes(model):
    """Returns how each dense layer of a model's blocks is quantized."""
    return [
        dense.quantization_mode
        for block in model._flatten_layers()
        if isinstance(block, Block)
        for dense in (block.pointwise_conv_1, block.pointwise_conv_2)
    ]


@pytest.mark.tensorflow_first
@every_mode
def test_a_quantized_block_stays_so_under_another_name_and_in_another_model(mode, tmp_path):
    model = small(mode)
    expected = model(IMAGES[:, :16, :16])
    copy = keras.models.clone_model(model, clone_function=renamed)
    outer = keras.Sequential([keras.Input((16, 16, 3)), keras.models.clone_model(model)])
    outer.save(tmp_path / "outer.keras")
    loaded = keras.saving.load_model(tmp_path / "outer.keras")
    model.save_weights(tmp_path / "quantized.weights.h5")
    for other in (copy, outer.layers[-1], loaded.layers[-1], keras.models.clone_model(copy)):
        assert modes(other) == [mode] * 4
        other.load_weights(tmp_path / "quantized.weights.h5")
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(other(IMAGES[:, :16, :16])),
            keras.ops.convert_to_numpy(expected),
        )


@pytest.fixture(scope="module")
def int8_block():
    return small("int8").get_layer("stages_1_blocks_0")


@pytest.mark.parametrize(("path", "name"), [("a", "a"), ("model/a", "a"), ("model/a", "b")])
def test_configs_with_the_paths_of_the_parts_are_still_read(int8_block, path, name):
    config = int8_block.get_config()
    policies = config["dtype"]["config"]["policy_map"]
    assert set(policies) == {"pointwise_conv_1", "pointwise_conv_2"}
    config["dtype"]["config"]["policy_map"] = {
        f"{path}/{part}": policy for part, policy in policies.items()
    }
    block = Block.from_config({**config, "name": name})
    block.build((None, 4, 4, 8))
    assert block.pointwise_conv_1.quantization_mode == "int8"
    assert block.pointwise_conv_2.quantization_mode == "int8"
    assert block.depthwise_conv.quantization_mode is None


def test_maps_of_a_whole_model_hold_for_the_blocks_that_they_name():
    paths = {f"b_1/{part}": "int8_from_float32" for part in ("pointwise_conv_1", "norm")}
    policies = {path: keras.dtype_policies.get(name) for path, name in paths.items()}
    policy = DTypePolicyMap("float32", policies)
    blocks = [Block(3, dtype=policy, name=f"b_{number}") for number in range(2)]
    for block in blocks:
        block.build((None, 4, 4, 8))
    copies = [Block.from_config(block.get_config()) for block in blocks]
    for copy in copies:
        copy.build((None, 4, 4, 8))
    for without, quantized in (blocks, copies):
        assert without.pointwise_conv_1.quantization_mode is None
        assert quantized.pointwise_conv_1.quantization_mode == "int8"
        assert quantized.pointwise_conv_2.quantization_mode is None
