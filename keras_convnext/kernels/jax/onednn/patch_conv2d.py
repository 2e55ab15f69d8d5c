"""A convolution of patches for JAX on CPU, as oneDNN's product."""

from keras_convnext.kernels.jax import patch_conv2d as by_xla
from keras_convnext.kernels.jax.onednn.matmul import dense
from keras_convnext.kernels.jax.onednn.support import takes
from keras_convnext.kernels.patch_conv2d import patches, rows_of


def patch_conv2d(inputs, kernel, bias, training: bool = False):
    """Same arguments and result as `kernels.patch_conv2d.reference`."""
    patched, matrix = patches(inputs, kernel.shape[0]), rows_of(kernel)
    if not takes(patched, matrix, bias):
        return by_xla.patch_conv2d(inputs, kernel, bias, training)
    rows = patched.reshape(-1, patched.shape[-1])
    return dense(rows, matrix, bias).reshape(*patched.shape[:-1], -1)
