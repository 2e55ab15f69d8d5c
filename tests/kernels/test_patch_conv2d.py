"""The kernels of a convolution of patches against `keras.ops`."""

import pytest
from gradients import (
    compare_values_with_reference,
    compare_with_reference,
    random_tensors,
    without_gradients,
)

from keras_convnext.kernels.reference import patch_conv2d as reference
from keras_convnext.kernels.select import select

pytestmark = pytest.mark.usefixtures("matmuls_by")
FILTERS = 5


def shapes(height, width, size, channels=3):
    """Returns the shapes of images, a kernel, a bias, and of the result."""
    result = (2, height // size, width // size, FILTERS)
    return [(2, height, width, channels), (size, size, channels, FILTERS), (FILTERS,), result]


# Whole patches; rows and columns left over; a patch as large as the image; patches of a pixel.
problems = pytest.mark.parametrize("problem", [(8, 12, 4), (7, 9, 2), (3, 3, 3), (2, 3, 1)])
precisions = pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 2e-6), ("bfloat16", 2e-2)]
)


@pytest.mark.parametrize("training", [False, True])
@precisions
@problems
def test_values_and_gradients_equal_the_reference(problem, dtype, tolerance, training):
    kernel = select("patch_conv2d")
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
def test_values_equal_the_reference_without_gradients(problem, dtype, tolerance):
    kernel = select("patch_conv2d")
    compare_values_with_reference(kernel, reference, shapes(*problem)[:-1], dtype, tolerance)


def test_no_images_give_no_images():
    images, kernel, bias, _ = random_tensors(shapes(8, 8, 4))
    with without_gradients():  # as in training, since TensorFlow's own convolution refuses them
        result = select("patch_conv2d")(images[:0], kernel, bias, training=True)
    assert tuple(result.shape) == (0, 2, 2, FILTERS)
