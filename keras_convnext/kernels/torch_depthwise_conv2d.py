"""Depthwise convolution for PyTorch, without the reshaping around Keras's own."""

import torch

from keras_convnext.kernels.depthwise_conv2d import reference


def depthwise_conv2d(inputs, kernel, bias=None):
    """Same arguments and result as `kernels.depthwise_conv2d`."""
    if torch.compiler.is_compiling():
        # Given the call below, the compiler of PyTorch 2.13 fails on the second image size, when it
        # makes the sizes symbolic.
        return reference(inputs, kernel, bias)
    # Handed to the convolution, the bias makes its gradients half as slow again on CPU.
    apart = bias is not None and torch.is_grad_enabled()
    # Permuting moves no data: what PyTorch sees is a tensor in its channels-last memory format.
    outputs = torch.nn.functional.conv2d(
        inputs.permute(0, 3, 1, 2),
        kernel.permute(2, 3, 0, 1),
        None if apart else bias,
        padding=(kernel.shape[0] // 2, kernel.shape[1] // 2),
        groups=kernel.shape[2],
    ).permute(0, 2, 3, 1)
    return outputs + bias if apart else outputs
