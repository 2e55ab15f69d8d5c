"""A block's two dense layers for PyTorch, which adds biases within the products.

Keras adds them in passes of their own; on CPU that is a third of the widest layer's time. There
products come from oneDNN, by the operation that PyTorch's compiler takes: it is faster than what
PyTorch takes otherwise, and where no gradients are asked for, GELU is part of the product too.

For training the gradients are written out: of the hidden units, four times as wide as the block,
those before GELU are kept alone, and GELU is taken again where PyTorch would have kept its result.
The tensor it is put into serves for its gradient as well, which saves time beside.
"""

import math

import torch
from torch.nn.functional import gelu, linear

from keras_convnext.kernels.torch_product import product

# Where no gradients are asked for, no more hidden units are held at a time than stay in the cache.
# Memory beyond 32 MiB comes from the system anew at every call: a third of the widest layer's time.
BYTES_OF_HIDDEN_UNITS = 8 * 2**20


def mlp(inputs, kernel_1, bias_1, kernel_2, bias_2, training: bool = False):
    """Same arguments and result as `kernels.mlp.reference`."""
    if torch.compiler.is_compiling():  # it finds all of this by itself
        return _differentiable(inputs, kernel_1, bias_1, kernel_2, bias_2)
    if training:
        return _WithOwnGradients.apply(inputs, kernel_1, bias_1, kernel_2, bias_2)
    if torch.is_grad_enabled():
        return _differentiable(inputs, kernel_1, bias_1, kernel_2, bias_2)
    return _without_gradients(inputs, kernel_1, bias_1, kernel_2, bias_2)


def _without_gradients(inputs, kernel_1, bias_1, kernel_2, bias_2):
    rows = _rows(inputs)
    size = rows.shape[0] * kernel_1.shape[1] * rows.element_size()
    count = math.ceil(size / BYTES_OF_HIDDEN_UNITS) if rows.device.type == "cpu" else 1
    parts = [
        product(product(part, kernel_1, bias_1, with_gelu=True), kernel_2, bias_2)
        for part in rows.chunk(max(count, 1))
    ]
    outputs = parts[0] if len(parts) == 1 else torch.cat(parts)
    return outputs.view(inputs.shape)


def _differentiable(inputs, kernel_1, bias_1, kernel_2, bias_2):
    return linear(gelu(linear(inputs, kernel_1.t(), bias_1)), kernel_2.t(), bias_2)


class _WithOwnGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs, kernel_1, bias_1, kernel_2, bias_2):
        hidden = product(inputs, kernel_1, bias_1)
        ctx.save_for_backward(inputs, kernel_1, bias_1, kernel_2, bias_2, hidden)
        return product(gelu(hidden), kernel_2, bias_2)

    @staticmethod
    def backward(ctx, output_gradient):
        *arguments, hidden = ctx.saved_tensors
        if torch.is_grad_enabled():  # gradients of the gradients are asked for
            return _differentiable_gradients(arguments, output_gradient, ctx.needs_input_grad)
        inputs, kernel_1, _, kernel_2, _ = arguments
        _, kernel_1_needs, _, kernel_2_needs, _ = ctx.needs_input_grad  # not where it is frozen
        rows, hidden, output_gradient = map(_rows, (inputs, hidden, output_gradient))
        activated = gelu(hidden)
        kernel_2_gradient = activated.t() @ output_gradient if kernel_2_needs else None
        hidden_gradient = torch.mm(output_gradient, kernel_2.t(), out=activated)
        torch.ops.aten.gelu_backward.grad_input(hidden_gradient, hidden, grad_input=hidden_gradient)
        return (
            product(hidden_gradient, kernel_1.t()).view(inputs.shape),
            rows.t() @ hidden_gradient if kernel_1_needs else None,
            hidden_gradient.sum(0),
            kernel_2_gradient,
            output_gradient.sum(0),
        )


def _differentiable_gradients(arguments, output_gradient, needed):
    wanted = [argument for argument, need in zip(arguments, needed, strict=True) if need]
    outputs = _differentiable(*arguments)
    gradients = iter(torch.autograd.grad(outputs, wanted, output_gradient, create_graph=True))
    return tuple(next(gradients) if need else None for need in needed)


def _rows(tensor):
    return tensor.reshape(-1, tensor.shape[-1])
