"""Values and gradients of a function on any backend, compiled on JAX and TensorFlow."""

import contextlib

import keras
import numpy as np
from keras import ops


def values_and_gradients(function, *arguments):
    """Returns the result and its gradients for all but the last argument, the result's gradient."""
    *arguments, output_gradient = arguments
    return _RUN[keras.backend.backend()](function, arguments, output_gradient)


def _with_jax(function, arguments, output_gradient):
    import jax

    @jax.jit
    def run(arguments, output_gradient):
        outputs, backward = jax.vjp(function, *arguments)
        return outputs, *backward(output_gradient)

    return run(arguments, output_gradient)


def _with_torch(function, arguments, output_gradient):
    arguments = [argument.detach().requires_grad_() for argument in arguments]
    outputs = function(*arguments)
    outputs.backward(output_gradient)
    return outputs.detach(), *(argument.grad for argument in arguments)


def _with_tensorflow(function, arguments, output_gradient):
    import tensorflow as tf

    @tf.function
    def run(arguments, output_gradient):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            outputs = function(*arguments)
        return outputs, *tape.gradient(outputs, arguments, output_gradients=output_gradient)

    return run(arguments, output_gradient)


_RUN = {"jax": _with_jax, "torch": _with_torch, "tensorflow": _with_tensorflow}


def random_tensors(shapes, dtype="float32"):
    """Returns tensors of normal values, exact in `dtype`."""
    random = np.random.default_rng(0)
    return [ops.cast(random.normal(size=shape).astype("float32"), dtype) for shape in shapes]


def largest_relative_error(actual, expected):
    """Returns the largest difference of two tensors, relative to the largest expected value."""
    actual, expected = (ops.convert_to_numpy(ops.cast(x, "float32")) for x in (actual, expected))
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()


def compare_with_reference(kernel, reference, shapes, dtype, tolerance):
    """Checks a kernel's values and gradients; the last of the shapes is the result's.

    The reference computes in float32, from the same numbers rounded to `dtype`.
    """
    actual = values_and_gradients(kernel, *random_tensors(shapes, dtype))
    exact = [ops.cast(x, "float32") for x in random_tensors(shapes, dtype)]
    expected = values_and_gradients(reference, *exact)
    assert len(actual) == len(shapes)
    for result, truth in zip(actual, expected, strict=True):
        assert keras.backend.standardize_dtype(result.dtype) == dtype
        assert largest_relative_error(result, truth) < tolerance


def without_gradients():
    """Returns a context without gradients, as in `predict`."""
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()


def compare_values_with_reference(kernel, reference, shapes, dtype, tolerance):
    """Checks a kernel's values in a context without gradients."""
    with without_gradients():
        result = kernel(*random_tensors(shapes, dtype))
        exact = (ops.cast(x, "float32") for x in random_tensors(shapes, dtype))
        truth = reference(*exact)
    assert keras.backend.standardize_dtype(result.dtype) == dtype
    assert largest_relative_error(result, truth) < tolerance


def second_gradients(function, arguments):
    """Returns the gradients of the squared norm of the first argument's gradient."""
    return _RUN_TWICE[keras.backend.backend()](function, arguments)


def _twice_with_jax(function, arguments):
    import jax

    def penalty(*arguments):
        gradient = jax.grad(lambda *a: function(*a).sum())(*arguments)
        return (gradient**2).sum()

    return jax.grad(penalty, argnums=tuple(range(len(arguments))))(*arguments)


def _twice_with_torch(function, arguments):
    import torch

    arguments = [argument.detach().requires_grad_() for argument in arguments]
    outputs = function(*arguments).sum()
    (gradient,) = torch.autograd.grad(outputs, arguments[0], create_graph=True)
    return torch.autograd.grad((gradient**2).sum(), arguments, materialize_grads=True)


def _twice_with_tensorflow(function, arguments):
    import tensorflow as tf

    with tf.GradientTape() as outer:
        outer.watch(arguments)
        with tf.GradientTape() as inner:
            inner.watch(arguments[0])
            outputs = tf.reduce_sum(function(*arguments))
        penalty = tf.reduce_sum(inner.gradient(outputs, arguments[0]) ** 2)
    return outer.gradient(penalty, arguments, unconnected_gradients="zero")


_RUN_TWICE = {
    "jax": _twice_with_jax,
    "torch": _twice_with_torch,
    "tensorflow": _twice_with_tensorflow,
}
