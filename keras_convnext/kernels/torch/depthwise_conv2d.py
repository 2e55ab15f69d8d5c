"""Depthwise convolution for PyTorch, without the reshaping around Keras's own.

On processors its gradients are convolutions too: the inputs', with the kernel turned around; and
the kernel's, of every image with that image's output gradient as a kernel of the image's size. So
PyTorch takes a quarter to a tenth of the time of its own gradient of the kernel.
"""

import torch
from torch.nn.functional import conv2d

from keras_convnext.kernels.depthwise_conv2d import LEAST_VALUES_OF_AN_IMAGE, reference
from keras_convnext.kernels.torch.double_backward import (
    differentiable_gradients,
    plain_operations_needed,
)


def depthwise_conv2d(inputs, kernel, bias=None, training: bool = False):
    """Same arguments and result as `kernels.depthwise_conv2d`."""
    if torch.compiler.is_compiling():
        # Given the call below, the compiler of PyTorch 2.13 fails on the second image size, when it
        # makes the sizes symbolic.
        return reference(inputs, kernel, bias)
    # Permuting moves no data: what PyTorch sees is a tensor in its channels-last memory format.
    inputs, kernel = inputs.permute(0, 3, 1, 2), kernel.permute(2, 3, 0, 1)
    large = inputs[:1].numel() >= LEAST_VALUES_OF_AN_IMAGE
    by_hand = large and inputs.device.type == "cpu" and not plain_operations_needed()
    if torch.is_grad_enabled() and by_hand:
        outputs = _WithOwnGradients.apply(inputs, kernel, bias)
    else:
        outputs = _convolve(inputs, kernel, bias)
    return outputs.permute(0, 2, 3, 1)


def _convolve(inputs, kernel, bias=None):
    padding = kernel.shape[2] // 2, kernel.shape[3] // 2
    return conv2d(inputs, kernel, bias, padding=padding, groups=kernel.shape[0])


class _WithOwnGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs, kernel, bias):
        ctx.save_for_backward(inputs, kernel, bias)
        return _convolve(inputs, kernel, bias)

    @staticmethod
    def backward(ctx, output_gradient):
        arguments, needed = ctx.saved_tensors, ctx.needs_input_grad
        if torch.is_grad_enabled():  # gradients of the gradients are asked for
            return differentiable_gradients(_convolve, arguments, output_gradient, needed)
        inputs, kernel, _ = arguments
        inputs_need, kernel_needs, bias_needs = needed  # not where it is frozen
        return (
            _convolve(output_gradient, kernel.flip(2, 3)) if inputs_need else None,
            _kernel_gradient(inputs, kernel, output_gradient) if kernel_needs else None,
            output_gradient.sum((0, 2, 3)) if bias_needs else None,
        )


def _kernel_gradient(inputs, kernel, output_gradient):
    # Added up in float32: in bfloat16 the sum would stop growing.
    exact = torch.promote_types(kernel.dtype, torch.float32)
    total = torch.zeros_like(kernel, dtype=exact)
    padding = kernel.shape[2] // 2, kernel.shape[3] // 2
    for image, gradient in zip(inputs.split(1), output_gradient, strict=True):
        taps = conv2d(image, gradient.unsqueeze(1), padding=padding, groups=kernel.shape[0])
        total += taps.permute(1, 0, 2, 3)
    return total.to(kernel.dtype)
