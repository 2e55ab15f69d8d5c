"""A block's two dense layers for PyTorch, which adds biases within the products.

Keras adds them in passes of their own; on CPU that is a third of the widest layer's time. There
products come from oneDNN, by the operation that PyTorch's compiler takes: it is faster than what
PyTorch takes otherwise, and where no gradients are asked for, GELU is part of the product too.

For training the gradients are written out: of the hidden units, four times as wide as the block,
those before GELU are kept alone, and GELU is taken again where PyTorch would have kept its result.
The tensor it is put into serves for its gradient as well, which saves time beside.
"""

import functools

import torch
from torch.nn.functional import gelu, linear


def mlp(inputs, kernel_1, bias_1, kernel_2, bias_2, training: bool = False):
    """Same arguments and result as `kernels.mlp.reference`."""
    if torch.compiler.is_compiling():  # it finds all of this by itself
        return _differentiable(inputs, kernel_1, bias_1, kernel_2, bias_2)
    if training:
        return _WithOwnGradients.apply(inputs, kernel_1, bias_1, kernel_2, bias_2)
    if torch.is_grad_enabled():
        return _differentiable(inputs, kernel_1, bias_1, kernel_2, bias_2)
    return _product(_product(inputs, kernel_1, bias_1, with_gelu=True), kernel_2, bias_2)


def _differentiable(inputs, kernel_1, bias_1, kernel_2, bias_2):
    return linear(gelu(linear(inputs, kernel_1.t(), bias_1)), kernel_2.t(), bias_2)


class _WithOwnGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs, kernel_1, bias_1, kernel_2, bias_2):
        hidden = _product(inputs, kernel_1, bias_1)
        ctx.save_for_backward(inputs, kernel_1, bias_1, kernel_2, bias_2, hidden)
        return _product(gelu(hidden), kernel_2, bias_2)

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
            _product(hidden_gradient, kernel_1.t()).view(inputs.shape),
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


def _product(inputs, kernel, bias=None, with_gelu=False):
    """Returns `inputs @ kernel + bias`, or GELU of it; without gradients."""
    if inputs.device.type == "cpu" and inputs.dtype in _dtypes_of_onednn() and inputs.numel():
        activation: tuple[str, list, str] = ("gelu", [], "none") if with_gelu else ("none", [], "")
        return torch.ops.mkldnn._linear_pointwise(inputs, kernel.t(), bias, *activation)
    outputs = linear(inputs, kernel.t(), bias)
    return gelu(outputs) if with_gelu else outputs


@functools.cache
def _dtypes_of_onednn() -> frozenset[torch.dtype]:
    if not torch.backends.mkldnn.is_available():
        return frozenset()
    dtypes = [torch.float32]
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        dtypes.append(torch.bfloat16)
    return frozenset(dtypes)


def _rows(tensor):
    return tensor.reshape(-1, tensor.shape[-1])
