"""The kernels of a convolution of patches against `keras.ops`."""

import importlib

import keras
import numpy as np
import pytest
from gradients import (
    compare_values_with_reference,
    compare_with_reference,
    random_tensors,
    without_gradients,
)
from keras import ops

from keras_convnext import kernels
from keras_convnext.kernels.select import fastest

pytestmark = pytest.mark.usefixtures("products_by")
# The package's attribute of this name is the function; this is the module it comes from.
reference = importlib.import_module("keras_convnext.kernels.patch_conv2d").reference
FILTERS = 5


def shapes(height, width, size, channels=3):
    """Returns the shapes of images, a kernel, a bias, and of the result."""
    result = (2, height // size, width // size, FILTERS)
    return [(2, height, width, channels), (size, size, channels, FILTERS), (FILTERS,), result]


# Whole patches; rows and columns too many; a patch that is the image; patches of one pixel.
problems = pytest.mark.parametrize("problem", [(8, 12, 4), (7, 9, 2), (3, 3, 3), (2, 3, 1)])
precisions = pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 2e-6), ("bfloat16", 2e-2)]
)


@pytest.mark.parametrize("training", [False, True])
@precisions
@problems
def test_values_and_gradients_equal_the_reference(problem, dtype, tolerance, training):
    kernel = fastest("patch_conv2d", reference)
    assert kernel is not reference
    compare_with_reference(
        lambda *arguments: kernel(*arguments, training),
        reference,
        shapes(*problem),
        dtype,
        tolerance,
    )


@precisions
@problems
def test_values_equal_the_reference_where_no_gradients_are_asked_for(problem, dtype, tolerance):
    kernel = fastest("patch_conv2d", reference)
    compare_values_with_reference(kernel, reference, shapes(*problem)[:-1], dtype, tolerance)


def test_no_images_give_no_images():
    images, kernel, bias, _ = random_tensors(shapes(8, 8, 4))
    with without_gradients():  # as in training, since TensorFlow's own convolution refuses them
        result = fastest("patch_conv2d", reference)(images[:0], kernel, bias, training=True)
    assert tuple(result.shape) == (0, 2, 2, FILTERS)


class Patches(keras.layers.Layer):
    """Applies the kernel as the stem does."""

    def __init__(self, dtype):
        super().__init__(dtype=dtype)
        self.conv = keras.layers.Conv2D(FILTERS, 2, 2, data_format="channels_last", dtype=dtype)

    def build(self, input_shape):
        self.conv.build(input_shape)
        self.conv.bias.assign(np.arange(FILTERS))

    def call(self, images, training=False):
        return kernels.patch_conv2d(self.conv, images, training)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_equals_the_layer_whatever_the_size(dtype, training):
    inputs, layer = keras.Input((None, None, 3)), Patches(dtype)
    model = keras.Model(inputs, layer(inputs))
    for size in (4, 7):
        images = np.random.default_rng(0).normal(size=(2, size, 6, 3)).astype("float32")
        result, expected = model(images, training=training), layer.conv(images)
        assert result.dtype == expected.dtype
        tensors = (ops.convert_to_numpy(ops.cast(x, "float32")) for x in (result, expected))
        tolerance = 2e-2 if "16" in dtype else 2e-6
        np.testing.assert_allclose(*tensors, rtol=tolerance, atol=tolerance)
