"""A block's LayerNorm, dense layers and layer scale for PyTorch, which adds biases in the products.

Keras adds them in passes of their own; on CPU that is a third of the widest layer's time. There
products come from oneDNN, by the operation that PyTorch's compiler takes: it is faster than what
PyTorch takes otherwise, and where no gradients are asked for, GELU is part of the product too.

For training the gradients are written out: of the hidden units, four times as wide as the block,
those before GELU are kept alone, and GELU is taken again where PyTorch would have kept its result.
The tensor it is put into serves for its gradient as well, which saves time beside. LayerNorm is
taken again too.

On processors the rows are taken in parts, so that hidden units are still in the cache when they are
used. Memory beyond 32 MiB, besides, comes from the system anew at every call: without parts that is
a third of the widest layer's time.
"""

import math

import torch
from torch.nn.functional import gelu, linear
from torch.nn.functional import layer_norm as torch_layer_norm

from keras_convnext.kernels.norm_mlp import keeps_unscaled
from keras_convnext.kernels.torch.double_backward import (
    differentiable_gradients,
    plain_operations_needed,
)
from keras_convnext.kernels.torch.matmul import product

BYTES_OF_HIDDEN_UNITS = 8 * 2**20  # in a part


def norm_mlp(
    inputs,
    gamma,
    beta,
    kernel_1,
    bias_1,
    kernel_2,
    bias_2,
    scale,
    epsilon: float,
    training: bool = False,
):
    """Same arguments and result as `kernels.norm_mlp.reference`."""
    weights = (gamma, beta, kernel_1, bias_1, kernel_2, bias_2)
    arguments = (inputs, *(weight.to(inputs.dtype) for weight in weights), scale, epsilon)
    if plain_operations_needed():
        return _differentiable(*arguments)
    if training:
        return _WithOwnGradients.apply(*arguments)
    if torch.is_grad_enabled():
        return _differentiable(*arguments)
    return _without_gradients(*arguments)


def _differentiable(inputs, gamma, beta, kernel_1, bias_1, kernel_2, bias_2, scale, epsilon):
    normed = torch_layer_norm(inputs, gamma.shape, gamma, beta, epsilon)
    outputs = linear(gelu(linear(normed, kernel_1.t(), bias_1)), kernel_2.t(), bias_2)
    return _scaled(outputs, scale)


def _without_gradients(inputs, gamma, beta, kernel_1, bias_1, kernel_2, bias_2, scale, epsilon):
    normed = torch_layer_norm(inputs, gamma.shape, gamma, beta, epsilon)
    outputs = [
        _scaled(product(product(part, kernel_1, bias_1, with_gelu=True), kernel_2, bias_2), scale)
        for part in _parts(normed, kernel_1)
    ]
    return _joined(outputs, inputs.shape)


def _scaled(outputs, scale):
    return outputs if scale is None else (outputs * scale).to(outputs.dtype)


class _WithOwnGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs, gamma, beta, kernel_1, bias_1, kernel_2, bias_2, scale, epsilon):
        normed, *statistics = torch.native_layer_norm(inputs, gamma.shape, gamma, beta, epsilon)
        rows = inputs.numel() // inputs.shape[-1]
        keeps = scale is not None and keeps_unscaled(rows, kernel_2.shape[0])
        hidden, unscaled, outputs = [], [], []
        for part in _parts(normed, kernel_1):
            hidden.append(product(part, kernel_1, bias_1))
            result = product(gelu(hidden[-1]), kernel_2, bias_2)
            unscaled.append(result if keeps else None)
            outputs.append(_scaled(result, scale))
        arguments = inputs, gamma, beta, kernel_1, bias_1, kernel_2, bias_2, scale
        ctx.save_for_backward(*arguments, *statistics, *hidden, *unscaled)
        ctx.epsilon = epsilon
        return _joined(outputs, inputs.shape)

    @staticmethod
    def backward(ctx, output_gradient):
        saved = ctx.saved_tensors  # once: where they are recomputed, that is done for each time
        arguments, statistics = (*saved[:8], ctx.epsilon), saved[8:10]
        needed, of_parts = ctx.needs_input_grad, saved[10:]
        if torch.is_grad_enabled():  # gradients of the gradients are asked for
            return differentiable_gradients(_differentiable, arguments, output_gradient, needed)
        inputs, gamma, beta, *dense, scale, epsilon = arguments
        hidden, unscaled = of_parts[: len(of_parts) // 2], of_parts[len(of_parts) // 2 :]
        normed = torch.native_layer_norm(inputs, gamma.shape, gamma, beta, epsilon)[0]
        rows, gradient_rows = _parts(normed, dense[0]), _parts(output_gradient, dense[0])
        normed_gradients: list[torch.Tensor] = []
        totals: list[torch.Tensor | None] = []
        for part in zip(rows, gradient_rows, hidden, unscaled, strict=True):
            normed_gradient, *gradients = _gradients_of_part(*part, dense, scale, needed[3:])
            normed_gradients.append(normed_gradient)
            totals = list(map(_sum, totals, gradients)) if totals else gradients
        if scale is not None and unscaled[0] is None:
            totals[2:] = _second_layers_gradients(totals[2], totals[3], dense, scale)
        norm_gradients = torch.ops.aten.native_layer_norm_backward(
            _joined(normed_gradients, inputs.shape),
            inputs,
            gamma.shape,
            *statistics,
            gamma,
            beta,
            needed[:3],
        )
        *dense_gradients, scale_gradient = totals
        dense_gradients = [None if x is None else x.to(inputs.dtype) for x in dense_gradients]
        return *norm_gradients, *dense_gradients, scale_gradient, None


def _gradients_of_part(rows, output_gradient, hidden, unscaled, dense, scale, needed):
    """Returns the gradients for the rows, for both layers' weights, and for layer scale.

    Where its inputs were not kept, those of the second layer's weights lack its factors.
    """
    kernel_1, _, kernel_2, _ = dense
    kernel_1_needs, _, kernel_2_needs, _, scale_needs, _ = needed  # not where it is frozen
    scaled = _scaled(output_gradient, scale)
    of_second = output_gradient if unscaled is None else scaled
    activated = gelu(hidden)
    second_needs = kernel_2_needs or scale_needs
    kernel_2_gradient = activated.t() @ of_second if second_needs else None
    hidden_gradient = torch.mm(scaled, kernel_2.t(), out=activated)
    torch.ops.aten.gelu_backward.grad_input(hidden_gradient, hidden, grad_input=hidden_gradient)
    return (
        product(hidden_gradient, kernel_1.t()),
        rows.t() @ hidden_gradient if kernel_1_needs else None,
        hidden_gradient.sum(0),
        kernel_2_gradient,
        of_second.sum(0),
        None if unscaled is None else _sum_along(output_gradient, unscaled, scale.dtype),
    )


def _second_layers_gradients(along_kernel, along_bias, dense, scale):
    """Returns the gradients for the second layer's weights and for layer scale."""
    _, _, kernel, bias = dense
    if along_kernel is None:  # neither the kernel nor layer scale needs any
        return None, along_bias * scale, None
    scale_gradient = _sum_along(along_kernel, kernel, scale.dtype) + along_bias * bias
    return along_kernel * scale, along_bias * scale, scale_gradient


def _sum_along(a, b, dtype):
    """Returns the sum of the rows of two matrices' elementwise product."""
    return torch.sum(a.to(dtype) * b, 0)


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
