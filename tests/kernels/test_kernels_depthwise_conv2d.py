"""The depthwise convolution's kernels against `keras.ops`, and the choice between them."""

import importlib
import shutil

import keras
import numpy as np
import pytest
from keras import ops

from keras_convnext import kernels

# The package's attribute of this name is the function; this is the module it comes from.
dispatch = importlib.import_module("keras_convnext.kernels.depthwise_conv2d")

BACKEND = keras.backend.backend()
only_jax = pytest.mark.skipif(BACKEND != "jax", reason="jax.jit exists on JAX only")


@pytest.fixture(autouse=True)
def no_kernel_is_forced(monkeypatch):
    monkeypatch.delenv("KERAS_CONVNEXT_KERNELS", raising=False)


def fastest_known():
    """Returns what the dispatch should choose for a 7x7 kernel; `None` stands for keras.ops."""
    if BACKEND == "jax":
        import jax

        from keras_convnext.kernels.jax_depthwise_conv2d import depthwise_conv2d

        return depthwise_conv2d if jax.default_backend() == "cpu" else None
    if BACKEND == "torch":
        from keras_convnext.kernels.torch_depthwise_conv2d import depthwise_conv2d

        return depthwise_conv2d
    return None


def random_problem(size, kernel_size, dtype="float32"):
    """Returns images, a kernel, a bias and a gradient of the result, all exact in `dtype`."""
    random = np.random.default_rng(0)
    shapes = [(2, *size), (kernel_size, kernel_size, size[-1], 1), size[-1:], (2, *size)]
    arrays = (random.normal(size=shape).astype("float32") for shape in shapes)
    return [ops.cast(array, dtype) for array in arrays]


def values_and_gradients(convolve, *arguments):
    """Returns the result and its gradients for images, kernel and bias, compiled where it can."""
    *arguments, output_gradient = arguments
    if BACKEND == "jax":
        import jax

        @jax.jit
        def run(arguments, output_gradient):
            outputs, backward = jax.vjp(convolve, *arguments)
            return outputs, *backward(output_gradient)

        return run(arguments, output_gradient)
    if BACKEND == "torch":
        for argument in arguments:
            argument.requires_grad_()
        outputs = convolve(*arguments)
        outputs.backward(output_gradient)
        return outputs.detach(), *(argument.grad for argument in arguments)
    raise NotImplementedError(BACKEND)


def largest_relative_error(actual, expected):
    actual, expected = (ops.convert_to_numpy(ops.cast(x, "float32")) for x in (actual, expected))
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()


@pytest.mark.skipif(fastest_known() is None, reason="keras.ops is the only kernel here")
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("kernel_size", [1, 3, 7, 11])
# The second image is smaller than every kernel but 1x1, so most of the kernel sees padding.
@pytest.mark.parametrize("size", [(13, 9, 5), (2, 1, 3)], ids=str)
def test_values_and_gradients_equal_the_reference(size, kernel_size, dtype, tolerance):
    actual = values_and_gradients(fastest_known(), *random_problem(size, kernel_size, dtype))
    # The truth is worked out in float32, from what `dtype` left of the same numbers.
    exact = [ops.cast(x, "float32") for x in random_problem(size, kernel_size, dtype)]
    expected = values_and_gradients(dispatch.reference, *exact)

    assert len(actual) == 4
    for result, truth in zip(actual, expected, strict=True):
        assert keras.backend.standardize_dtype(result.dtype) == dtype
        assert largest_relative_error(result, truth) < tolerance


@pytest.mark.skipif(fastest_known() is None, reason="keras.ops is the only kernel here")
def test_bfloat16_gradients_are_added_up_exactly():
    # Sums of this many pixels: added up in bfloat16 they would stop growing at 256.
    ones = [(2, 40, 40, 1), (1, 1, 1, 1), (1,), (2, 40, 40, 1)]
    ones = [ops.ones(shape, "bfloat16") for shape in ones]

    _, _, kernel_gradient, bias_gradient = values_and_gradients(fastest_known(), *ones)

    assert float(kernel_gradient[0, 0, 0, 0]) == 3200
    assert float(bias_gradient[0]) == 3200


@only_jax
def test_gives_the_same_with_and_without_jit():
    import jax

    problem = random_problem((6, 5, 3), 3)[:3]
    compiled = jax.jit(lambda *arguments: kernels.depthwise_conv2d(*arguments))

    assert largest_relative_error(compiled(*problem), kernels.depthwise_conv2d(*problem)) < 1e-6


@pytest.mark.skipif(BACKEND != "torch", reason="torch.compile exists on PyTorch only")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_torch_compile_takes_every_image_size():
    # As in a network, whose stages differ in size; a model compiled on JAX asks for compilation.
    import torch

    compiled = torch.compile(fastest_known())
    for size in (4, 2):
        problem = random_problem((size, size, 8), 3)
        actual = values_and_gradients(compiled, *problem)
        expected = values_and_gradients(dispatch.reference, *random_problem((size, size, 8), 3))
        for result, truth in zip(actual, expected, strict=True):
            assert largest_relative_error(result, truth) < 1e-5


def test_kernel_is_not_flipped_and_bias_is_added():
    # A kernel that picks the pixel up and to the left moves the image down and to the right.
    image = np.arange(1.0, 13.0, dtype="float32").reshape(1, 3, 4, 1)
    kernel = np.zeros((3, 3, 1, 1), "float32")
    kernel[0, 0] = 1
    moved = np.zeros_like(image)
    moved[:, 1:, 1:] = image[:, :-1, :-1]

    for convolve in (dispatch.reference, kernels.depthwise_conv2d):
        plain = ops.convert_to_numpy(convolve(image, kernel))
        np.testing.assert_allclose(plain, moved, atol=1e-6)
        with_bias = convolve(image, kernel, np.array([0.5], "float32"))
        np.testing.assert_allclose(ops.convert_to_numpy(with_bias), moved + 0.5, atol=1e-6)


def test_dispatch_takes_the_fastest_known_kernel():
    assert dispatch.fastest_depthwise_conv2d(7) is (fastest_known() or dispatch.reference)


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch's kernel takes any size")
def test_dispatch_leaves_large_kernels_to_the_reference():
    assert dispatch.fastest_depthwise_conv2d(13) is dispatch.reference


@pytest.fixture
def reference_calls(monkeypatch):
    """Counts the calls of the reference."""
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return original(*arguments)

    original = dispatch.reference
    monkeypatch.setattr(dispatch, "reference", counted)
    return calls


def test_environment_variable_forces_the_reference(reference_calls, monkeypatch):
    monkeypatch.setenv("KERAS_CONVNEXT_KERNELS", "reference")

    kernels.depthwise_conv2d(*random_problem((5, 5, 3), 3)[:3])

    assert len(reference_calls) == 1


@only_jax
def test_environment_variable_forces_the_reference_under_jit(reference_calls, monkeypatch):
    import jax

    monkeypatch.setenv("KERAS_CONVNEXT_KERNELS", "reference")

    jax.jit(lambda *arguments: kernels.depthwise_conv2d(*arguments))(
        *random_problem((5, 5, 3), 3)[:3]
    )

    assert len(reference_calls) == 1


def test_environment_variable_auto_is_the_default(monkeypatch):
    chosen = dispatch.fastest_depthwise_conv2d(7)
    monkeypatch.setenv("KERAS_CONVNEXT_KERNELS", "auto")

    assert dispatch.fastest_depthwise_conv2d(7) is chosen


def test_unknown_value_of_the_environment_variable_is_refused(monkeypatch):
    monkeypatch.setenv("KERAS_CONVNEXT_KERNELS", "fastest")

    with pytest.raises(ValueError, match=r"must be 'auto' or 'reference'. Received: 'fastest'"):
        kernels.depthwise_conv2d(*random_problem((5, 5, 3), 3)[:3])
