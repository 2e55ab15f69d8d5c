"""A block's two dense layers for PyTorch, which adds biases within the products.

Keras adds them in passes of their own; on CPU that is a third of the widest layer's time. There
products come from oneDNN, by the operation that PyTorch's compiler takes: it is faster than what
PyTorch takes otherwise, and where no gradients are asked for, GELU is part of the product too.

For training the gradients are written out: of the hidden units, four times as wide as the block,
those before GELU are kept alone, and GELU is taken again where PyTorch would have kept its result.
The tensor it is put into serves for its gradient as well, which saves time beside.

On processors the rows are taken in parts, so that hidden units are still in the cache when they are
used. Memory beyond 32 MiB, besides, comes from the system anew at every call: without parts that is
a third of the widest layer's time.
"""

import math

import torch
from torch.nn.functional import gelu, linear

from keras_convnext.kernels.torch_gradients import differentiable_gradients
from keras_convnext.kernels.torch_product import product

BYTES_OF_HIDDEN_UNITS = 8 * 2**20  # in a part


def mlp(inputs, kernel_1, bias_1, kernel_2, bias_2, training: bool = False):
    """Same arguments and result as `kernels.mlp.reference`."""
    weights = [weight.to(inputs.dtype) for weight in (kernel_1, bias_1, kernel_2, bias_2)]
    if torch.compiler.is_compiling():  # it finds all of this by itself
        return _differentiable(inputs, *weights)
    if training:
        return _WithOwnGradients.apply(inputs, *weights)
    if torch.is_grad_enabled():
        return _differentiable(inputs, *weights)
    return _without_gradients(inputs, *weights)


def _without_gradients(inputs, kernel_1, bias_1, kernel_2, bias_2):
    outputs = [
        product(product(part, kernel_1, bias_1, with_gelu=True), kernel_2, bias_2)
        for part in _parts(inputs, kernel_1)
    ]
    return _joined(outputs, inputs.shape)


def _differentiable(inputs, kernel_1, bias_1, kernel_2, bias_2):
    return linear(gelu(linear(inputs, kernel_1.t(), bias_1)), kernel_2.t(), bias_2)


class _WithOwnGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs, kernel_1, bias_1, kernel_2, bias_2):
        hidden, outputs = [], []
        for part in _parts(inputs, kernel_1):
            hidden.append(product(part, kernel_1, bias_1))
            outputs.append(product(gelu(hidden[-1]), kernel_2, bias_2))
        ctx.save_for_backward(inputs, kernel_1, bias_1, kernel_2, bias_2, *hidden)
        return _joined(outputs, inputs.shape)

    @staticmethod
    def backward(ctx, output_gradient):
        arguments, hidden = ctx.saved_tensors[:5], ctx.saved_tensors[5:]
        needed = ctx.needs_input_grad
        if torch.is_grad_enabled():  # gradients of the gradients are asked for
            return differentiable_gradients(_differentiable, arguments, output_gradient, needed)
        inputs, kernel_1, _, kernel_2, _ = arguments
        rows, gradient_rows = _parts(inputs, kernel_1), _parts(output_gradient, kernel_1)
        input_gradients: list[torch.Tensor] = []
        totals: list[torch.Tensor | None] = []
        for part in zip(rows, hidden, gradient_rows, strict=True):
            input_gradient, *gradients = _gradients_of_part(*part, kernel_1, kernel_2, needed)
            input_gradients.append(input_gradient)
            totals = list(map(_sum, totals, gradients)) if totals else gradients
        weight_gradients = (None if x is None else x.to(kernel_1.dtype) for x in totals)
        return _joined(input_gradients, inputs.shape), *weight_gradients


def _gradients_of_part(rows, hidden, output_gradient, kernel_1, kernel_2, needed):
    _, kernel_1_needs, _, kernel_2_needs, _ = needed  # not where it is frozen
    activated = gelu(hidden)
    kernel_2_gradient = activated.t() @ output_gradient if kernel_2_needs else None
    hidden_gradient = torch.mm(output_gradient, kernel_2.t(), out=activated)
    torch.ops.aten.gelu_backward.grad_input(hidden_gradient, hidden, grad_input=hidden_gradient)
    return (
        product(hidden_gradient, kernel_1.t()),
        rows.t() @ hidden_gradient if kernel_1_needs else None,
        hidden_gradient.sum(0),
        kernel_2_gradient,
        output_gradient.sum(0),
    )


def _sum(total, gradient):
    """The sum of parts' gradients, in float32: in bfloat16 it would stop growing."""
    if gradient is None:
        return None
    return total.to(torch.promote_types(total.dtype, torch.float32)).add_(gradient)


def _parts(x, kernel):
    """Returns the rows of `x` in parts, whose hidden units stay in the cache on processors."""
    rows = x.reshape(-1, x.shape[-1])
    size = rows.shape[0] * kernel.shape[1] * rows.element_size()
    count = math.ceil(size / BYTES_OF_HIDDEN_UNITS) if rows.device.type == "cpu" else 1
    return rows.chunk(max(count, 1))


def _joined(parts, shape):
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).view(shape)
