"""The depthwise convolution's kernels against `keras.ops`."""

import shutil

import keras
import numpy as np
import pytest
from gradients import (
    compare_values_with_reference,
    compare_with_reference,
    largest_relative_error,
    random_tensors,
    second_gradients,
    values_and_gradients,
)
from keras import ops

from keras_convnext.kernels.reference import depthwise_conv2d as reference
from keras_convnext.kernels.select import VARIABLE, select

BACKEND = keras.backend.backend()
pytestmark = pytest.mark.usefixtures("matmuls_by")
only_jax = pytest.mark.skipif(BACKEND != "jax", reason="jax.jit exists on JAX only")


@pytest.fixture(autouse=True)
def no_kernel_is_forced(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


def selected():
    return select("depthwise_conv2d", kernel_size=7)


def trained(*arguments):
    """Calls the selected kernel as a network in training does."""
    return selected()(*arguments, training=True)


only_kernels = pytest.mark.skipif(selected() is reference, reason="keras.ops is selected here")


def random_problem(size, kernel_size, dtype="float32"):
    """Returns images, a kernel, a bias and a gradient of the result, all exact in `dtype`."""
    return random_tensors(shapes(size, kernel_size), dtype)


def shapes(size, kernel_size):
    return [(2, *size), (kernel_size, kernel_size, size[-1], 1), size[-1:], (2, *size)]


@only_kernels
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("kernel_size", [1, 3, 7, 11])
# The second image is smaller than every kernel but 1x1, so most of the kernel sees padding. The
# last ones are so large that gradients are computed image by image.
@pytest.mark.parametrize("size", [(13, 9, 5), (2, 1, 3), (50, 41, 5), (3, 9, 304)], ids=str)
def test_values_and_gradients_equal_the_reference(size, kernel_size, dtype, tolerance):
    compare_with_reference(trained, reference, shapes(size, kernel_size), dtype, tolerance)


@only_kernels
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_values_equal_the_reference_without_gradients(dtype, tolerance):
    compare_values_with_reference(
        selected(), reference, shapes((13, 9, 5), 7)[:-1], dtype, tolerance
    )


@pytest.mark.skipif(BACKEND != "torch", reason="others leave out what is unused")
@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("wanted", [(0,), (1, 2), (2,)], ids=str)
def test_frozen_weights_get_no_gradients(wanted, create_graph):
    import torch

    *arguments, output_gradient = random_problem((50, 41, 5), 3)
    wanted = [arguments[number].requires_grad_() for number in wanted]
    results = [
        torch.autograd.grad(
            function(*arguments), wanted, output_gradient, create_graph=create_graph
        )
        for function in (trained, reference)
    ]
    for result, truth in zip(*results, strict=True):
        assert largest_relative_error(result, truth) < 1e-5


@only_kernels
def test_gradients_of_gradients_equal_the_references():
    arguments = random_problem((50, 41, 5), 3)[:2]
    actual = second_gradients(trained, arguments)
    expected = second_gradients(reference, arguments)
    assert largest_relative_error(actual[1], expected[1]) < 1e-4


@only_kernels
def test_bfloat16_gradients_are_summed_in_float32():
    # Sums of this many pixels: in bfloat16 they would stop growing at 256.
    for side in (40, 96):
        ones = [(2, side, side, 1), (1, 1, 1, 1), (1,), (2, side, side, 1)]
        ones = [ops.ones(shape, "bfloat16") for shape in ones]

        _, _, kernel_gradient, bias_gradient = values_and_gradients(trained, *ones)

        assert float(kernel_gradient[0, 0, 0, 0]) == 2 * side**2
        assert float(bias_gradient[0]) == 2 * side**2


@only_jax
def test_jit_does_not_change_the_result():
    import jax

    problem = random_problem((6, 5, 3), 3)[:3]
    compiled = jax.jit(selected())

    assert largest_relative_error(compiled(*problem), selected()(*problem)) < 1e-6


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "torch", reason="torch.compile exists on PyTorch only")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_torch_compile_takes_every_image_size():
    # As in a network, whose stages differ in size; a model compiled on JAX asks for compilation.
    import torch

    compiled = torch.compile(selected())
    for size in (4, 2):
        problem = random_problem((size, size, 8), 3)
        actual = values_and_gradients(compiled, *problem)
        expected = values_and_gradients(reference, *random_problem((size, size, 8), 3))
        for result, truth in zip(actual, expected, strict=True):
            assert largest_relative_error(result, truth) < 1e-5


def test_kernel_is_not_flipped_and_bias_is_added():
    # A kernel that picks the pixel up and to the left moves the image down and to the right.
    image = np.arange(1.0, 13.0, dtype="float32").reshape(1, 3, 4, 1)
    kernel = np.zeros((3, 3, 1, 1), "float32")
    kernel[0, 0] = 1
    moved = np.zeros_like(image)
    moved[:, 1:, 1:] = image[:, :-1, :-1]

    image, kernel = map(ops.convert_to_tensor, (image, kernel))
    for convolve in (reference, selected()):
        plain = ops.convert_to_numpy(convolve(image, kernel))
        np.testing.assert_allclose(plain, moved, atol=1e-6)
        with_bias = convolve(image, kernel, ops.convert_to_tensor(np.array([0.5], "float32")))
        np.testing.assert_allclose(ops.convert_to_numpy(with_bias), moved + 0.5, atol=1e-6)
