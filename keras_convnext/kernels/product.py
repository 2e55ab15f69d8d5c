"""Products of matrices for JAX's kernels: the one signature, and its reference."""

from collections.abc import Callable

from keras import ops

from keras_convnext.kernels.choice import fastest


def fastest_product() -> Callable:
    """Returns the fastest function with the signature of `reference`."""
    return fastest("product", reference)


def reference(a, b, transpose_a: bool = False, transpose_b: bool = False):
    """Returns the product of two matrices, as `keras.ops` does it.

    Args:
        a: Matrix, or with `transpose_a` its transpose.
        b: Matrix, or with `transpose_b` its transpose.
    """
    a = ops.transpose(a) if transpose_a else a
    return ops.matmul(a, ops.transpose(b) if transpose_b else b)
