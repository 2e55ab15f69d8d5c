"""A convolution of patches for PyTorch, as a product: Keras's copies the images there and back."""

import torch

from keras_convnext.kernels.patch_conv2d import patches, reference, rows_of
from keras_convnext.kernels.torch.double_backward import plain_operations_needed
from keras_convnext.kernels.torch.matmul import product


def patch_conv2d(inputs, kernel, bias, training: bool = False):
    """Same arguments and result as `kernels.patch_conv2d.reference`."""
    if torch.compiler.is_compiling():  # as in exporting, where engines know convolutions better
        return reference(inputs, kernel, bias)
    patched, matrix = patches(inputs, kernel.shape[0]), rows_of(kernel)
    if torch.is_grad_enabled() or plain_operations_needed():
        return torch.nn.functional.linear(patched, matrix.t(), bias)
    return product(patched, matrix, bias)
