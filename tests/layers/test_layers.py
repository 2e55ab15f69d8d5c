"""Properties of all layers, and tests of the small ones."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

from keras_convnext.layers import (
    Block,
    DepthwiseConv2D,
    Downsampling,
    LayerScale,
    Stem,
    StochasticDepth,
)

# Every argument differs from its default, so that a lost one is noticed.
EVERY_LAYER = [
    Block(3, drop_path_rate=0.1, layer_scale_init_value=0.5, name="a"),
    Block(3, layer_scale_init_value=None, name="b"),
    Stem(6, patch_size=2, use_norm=False, name="c"),
    Downsampling(6, name="d"),
    StochasticDepth(0.25, seed=3, name="e"),
    LayerScale(0.5, name="f"),
    DepthwiseConv2D(3, False, "he_normal", keras.initializers.Constant(0.1), name="g"),
]
every_layer = pytest.mark.parametrize(
    "prototype", EVERY_LAYER, ids=lambda layer: f"{type(layer).__name__}_{layer.name}"
)


# One size for all, since JAX compiles every operation, and every initializer, for every shape.
SHAPE = (2, 7, 5, 3)


def random_images(*shape, scale=1.0):
    return scale * np.random.default_rng(0).normal(size=shape).astype("float32")


def numpy_of(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def fresh(prototype, **changes):
    return type(prototype).from_config({**prototype.get_config(), **changes})


def randomize(layer):
    random = np.random.default_rng(1)
    layer.set_weights([random.normal(size=w.shape).astype("float32") for w in layer.weights])


@every_layer
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_config_round_trip_gives_the_same_layer(prototype, policy):
    layer = fresh(prototype, dtype=policy)
    copy = keras.layers.deserialize(keras.layers.serialize(layer))
    images = random_images(*SHAPE)
    layer(images), copy(images)
    copy.set_weights(layer.get_weights())

    arguments = set(inspect.signature(type(layer).__init__).parameters) - {"self", "kwargs"}
    assert arguments <= set(layer.get_config())
    assert copy.get_config() == layer.get_config()
    assert copy.dtype_policy.name == policy
    np.testing.assert_array_equal(numpy_of(copy(images)), numpy_of(layer(images)))


@every_layer
def test_computed_shape_is_the_actual_shape(prototype):
    layer = fresh(prototype)

    outputs = layer(random_images(*SHAPE))

    assert layer.compute_output_shape(SHAPE) == tuple(outputs.shape)
    assert layer.compute_output_shape((None, None, None, 3))[:3] == (None, None, None)


@every_layer
@pytest.mark.parametrize(
    ("policy", "outputs", "weights"),
    [
        ("mixed_bfloat16", "bfloat16", "float32"),
        ("mixed_float16", "float16", "float32"),
        ("bfloat16", "bfloat16", "bfloat16"),
    ],
)
def test_dtypes_follow_the_policy(prototype, policy, outputs, weights):
    layer = fresh(prototype, dtype=policy)

    result = layer(random_images(*SHAPE), training=True)

    assert keras.backend.standardize_dtype(result.dtype) == outputs
    for weight in layer.trainable_weights:
        # Layer scale is the exception: 1e-6 and its updates do not fit in half precision.
        is_layer_scale = isinstance(layer, LayerScale) or "layer_scale" in weight.path
        assert weight.dtype == ("float32" if is_layer_scale else weights), weight.path


class TestLayerScale:
    def test_multiplies_every_channel_by_its_factor(self):
        layer = LayerScale(0.5)
        images = random_images(2, 3, 3, 4)

        np.testing.assert_array_equal(numpy_of(layer(images)), images / 2)
        layer.gamma.assign([1.0, -2.0, 0.0, 4.0])
        np.testing.assert_array_equal(numpy_of(layer(images)), images * [1, -2, 0, 4])

    def test_starts_at_one_millionth(self):
        layer = LayerScale()
        layer.build((None, 3))

        np.testing.assert_array_equal(numpy_of(layer.gamma), np.full(3, 1e-6, "float32"))

    def test_multiplies_in_float32_under_half_precision(self):
        # In float16 the factor would be rounded to 9.54e-07 before the multiplication.
        layer = LayerScale(1e-6, dtype="mixed_float16")

        outputs = numpy_of(layer(np.full((1, 1), 30000.0, "float32")))

        np.testing.assert_array_equal(outputs, np.float32(np.float16(0.03)))

    @pytest.mark.parametrize("value", [0, -1e-6, float("nan")])
    def test_refuses_a_value_that_cannot_learn(self, value):
        with pytest.raises(ValueError, match=r"`init_value` must be above 0.*Received: init_value"):
            LayerScale(value)


class TestDepthwiseConv2D:
    # The last one is smaller than the kernel.
    @pytest.mark.parametrize("size", [(9, 5), (8, 11), (2, 3)], ids=str)
    def test_equals_the_layer_of_keras(self, size):
        images = random_images(2, *size, 3)
        ours = DepthwiseConv2D(7)
        theirs = keras.layers.DepthwiseConv2D(7, padding="same", data_format="channels_last")
        ours(images), theirs(images)
        randomize(ours)
        theirs.set_weights(ours.get_weights())

        outputs = numpy_of(ours(images))

        assert outputs.shape == images.shape
        np.testing.assert_allclose(outputs, numpy_of(theirs(images)), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("kernel_size", [0, 2, 8, -1])
    def test_refuses_a_kernel_without_a_center(self, kernel_size):
        with pytest.raises(ValueError, match=f"must be odd .* Received: kernel_size={kernel_size}"):
            DepthwiseConv2D(kernel_size)

    def test_initializers_are_used(self):
        layer = DepthwiseConv2D(3, kernel_initializer="ones", bias_initializer="ones")
        layer.build((None, 4, 4, 2))

        assert all(np.all(weight == 1) for weight in layer.get_weights())
        assert len(layer.weights) == 2


# Small images make the variance under LayerNorm as small as its epsilon, so epsilon shows.
@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize("size", [(8, 12), (11, 7)], ids=str)
class TestStemAndDownsampling:
    def test_stem_is_a_convolution_of_patches_and_a_normalization(self, size, scale):
        images = random_images(2, *size, 3, scale=scale)
        stem = Stem(5, patch_size=4)
        conv = keras.layers.Conv2D(5, 4, strides=4, padding="valid", data_format="channels_last")
        norm = keras.layers.LayerNormalization(epsilon=1e-6)
        stem(images), norm(conv(images))
        randomize(stem)
        stem.conv.bias.assign(np.zeros(5))  # or the small scale would not reach the norm
        conv.set_weights(stem.get_weights()[:2])
        norm.set_weights(stem.get_weights()[2:])

        outputs = numpy_of(stem(images))

        assert outputs.shape == (2, size[0] // 4, size[1] // 4, 5)
        np.testing.assert_allclose(outputs, numpy_of(norm(conv(images))), rtol=1e-4, atol=1e-5)

    def test_downsampling_is_a_normalization_and_a_convolution_of_stride_2(self, size, scale):
        images = random_images(2, *size, 3, scale=scale)
        downsampling = Downsampling(5)
        norm = keras.layers.LayerNormalization(epsilon=1e-6)
        conv = keras.layers.Conv2D(5, 2, strides=2, padding="valid", data_format="channels_last")
        downsampling(images), conv(norm(images))
        randomize(downsampling)
        norm.set_weights(downsampling.get_weights()[:2])
        conv.set_weights(downsampling.get_weights()[2:])

        outputs = numpy_of(downsampling(images))

        assert outputs.shape == (2, size[0] // 2, size[1] // 2, 5)
        np.testing.assert_allclose(outputs, numpy_of(conv(norm(images))), rtol=1e-4, atol=1e-5)
