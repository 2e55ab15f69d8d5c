"""Convolutions for PyTorch, without the reshapes and copies around Keras's own.

On CPU the gradients of a depthwise convolution are convolutions too: that of the inputs, with the
flipped kernel; and that of the kernel, of each image with that image's output gradient as a kernel
as large as the image. It takes a quarter to a tenth of the time of PyTorch's own gradient. A
convolution of patches is one matmul.
"""

import torch
from torch.nn.functional import conv2d, linear

from keras_convnext.kernels import reference
from keras_convnext.kernels.patches import as_matrix, extract_patches
from keras_convnext.kernels.torch.double_backward import double_backward, needs_plain_operations
from keras_convnext.kernels.torch.matmul import matmul


def patch_conv2d(inputs, kernel, bias, training: bool = False):
    """Has the contract of `reference.patch_conv2d`."""
    if torch.compiler.is_compiling():  # also in an export, where engines optimize convolutions
        return reference.patch_conv2d(inputs, kernel, bias)
    patches, matrix = extract_patches(inputs, kernel.shape[0]), as_matrix(kernel)
    if torch.is_grad_enabled() or needs_plain_operations():
        return linear(patches, matrix.t(), bias)
    return matmul(patches, matrix, bias)


def depthwise_conv2d(inputs, kernel, bias=None, training: bool = False):
    """Has the contract of `reference.depthwise_conv2d`."""
    if torch.compiler.is_compiling():
        # With the call below, the compiler of PyTorch 2.13 fails on the second image size, for
        # which it makes the sizes symbolic.
        return reference.depthwise_conv2d(inputs, kernel, bias)
    # Permuting moves no data: PyTorch sees a tensor in its channels-last memory format.
    inputs, kernel = inputs.permute(0, 3, 1, 2), kernel.permute(2, 3, 0, 1)
    is_large = inputs[:1].numel() >= reference.MIN_VALUES_PER_IMAGE
    by_hand = is_large and inputs.device.type == "cpu" and not needs_plain_operations()
    if torch.is_grad_enabled() and by_hand:
        outputs = _DepthwiseWithCustomGradient.apply(inputs, kernel, bias)
    else:
        outputs = _convolve(inputs, kernel, bias)
    return outputs.permute(0, 2, 3, 1)


def _convolve(inputs, kernel, bias=None):
    padding = kernel.shape[2] // 2, kernel.shape[3] // 2
    return conv2d(inputs, kernel, bias, padding=padding, groups=kernel.shape[0])


class _DepthwiseWithCustomGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs, kernel, bias):
        ctx.save_for_backward(inputs, kernel, bias)
        return _convolve(inputs, kernel, bias)

    @staticmethod
    def backward(ctx, output_gradient):
        arguments, needed = ctx.saved_tensors, ctx.needs_input_grad
        if torch.is_grad_enabled():  # for gradients of the gradients
            return double_backward(_convolve, arguments, output_gradient, needed)
        inputs, kernel, _ = arguments
        inputs_need, kernel_needs, bias_needs = needed  # a frozen weight needs none
        return (
            _convolve(output_gradient, kernel.flip(2, 3)) if inputs_need else None,
            _kernel_gradient(inputs, kernel, output_gradient) if kernel_needs else None,
            output_gradient.sum((0, 2, 3)) if bias_needs else None,
        )


def _kernel_gradient(inputs, kernel, output_gradient):
    # In bfloat16 the sum would stop growing.
    exact = torch.promote_types(kernel.dtype, torch.float32)
    total = torch.zeros_like(kernel, dtype=exact)
    padding = kernel.shape[2] // 2, kernel.shape[3] // 2
    for image, gradient in zip(inputs.split(1), output_gradient, strict=True):
        taps = conv2d(image, gradient.unsqueeze(1), padding=padding, groups=kernel.shape[0])
        total += taps.permute(1, 0, 2, 3)
    return total.to(kernel.dtype)
