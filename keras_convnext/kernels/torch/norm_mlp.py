"""LayerNorm, dense layers and layer scale of a block for PyTorch, with fused biases.

Keras adds biases in passes of their own, on CPU a third of the widest layer's time. The matmuls are
oneDNN's, which also fuse GELU when no gradients are needed.

For training there is a hand-written backward pass. Of the hidden units, four times as wide as the
block, only those before GELU are saved. GELU is recomputed, and its tensor is reused for its
gradient. LayerNorm is recomputed too.

On CPU the rows are processed in chunks, so that hidden units are still in the cache when they are
read. The C library also requests every array beyond 32 MiB from the system anew: without chunks
that is a third of the widest layer's time.
"""

import functools
import math

import torch
from torch.nn.functional import gelu, linear
from torch.nn.functional import layer_norm as torch_layer_norm

from keras_convnext.kernels.reference import BlockParams, save_unscaled
from keras_convnext.kernels.torch.double_backward import double_backward, needs_plain_operations
from keras_convnext.kernels.torch.matmul import matmul

HIDDEN_BYTES_PER_CHUNK = 8 * 2**20


def norm_mlp(inputs, params: BlockParams, epsilon: float, training: bool = False):
    """Has the contract of `reference.norm_mlp`."""
    params = params.map_norm(lambda weight: weight.to(inputs.dtype))
    params = params.map_dense(lambda weight: weight.to(inputs.dtype))
    if needs_plain_operations():
        return _plain(epsilon, inputs, *params)
    if training:
        return _NormMLPWithCustomGradient.apply(epsilon, inputs, *params)
    if torch.is_grad_enabled():
        return _plain(epsilon, inputs, *params)
    return _without_gradients(inputs, params, epsilon)


def _plain(epsilon, inputs, *weights):
    """Computes the operation with PyTorch's own operations, which it can differentiate."""
    params = BlockParams(*weights)
    normed = torch_layer_norm(inputs, params.gamma.shape, params.gamma, params.beta, epsilon)
    hidden = gelu(linear(normed, params.kernel_1.t(), params.bias_1))
    return _scaled(linear(hidden, params.kernel_2.t(), params.bias_2), params.scale)


def _without_gradients(inputs, params, epsilon):
    normed = torch_layer_norm(inputs, params.gamma.shape, params.gamma, params.beta, epsilon)
    outputs = []
    for rows in _chunks(normed, params.kernel_1):
        hidden = matmul(rows, params.kernel_1, params.bias_1, with_gelu=True)
        outputs.append(_scaled(matmul(hidden, params.kernel_2, params.bias_2), params.scale))
    return _join(outputs, inputs.shape)


def _scaled(outputs, scale):
    return outputs if scale is None else (outputs * scale).to(outputs.dtype)


class _NormMLPWithCustomGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, epsilon, inputs, *weights):
        params = BlockParams(*weights)
        normed, mean, inverse_std = _native_layer_norm(inputs, params, epsilon)
        rows = inputs.numel() // inputs.shape[-1]
        saves = params.scale is not None and save_unscaled(rows, params.kernel_2.shape[0])
        hidden, unscaled, outputs = [], [], []
        for chunk in _chunks(normed, params.kernel_1):
            hidden.append(matmul(chunk, params.kernel_1, params.bias_1))
            result = matmul(gelu(hidden[-1]), params.kernel_2, params.bias_2)
            unscaled.append(result if saves else None)
            outputs.append(_scaled(result, params.scale))
        ctx.save_for_backward(inputs, mean, inverse_std, *params, *hidden, *unscaled)
        ctx.epsilon, ctx.chunks = epsilon, len(hidden)
        return _join(outputs, inputs.shape)

    @staticmethod
    def backward(ctx, output_gradient):
        # Read once: under checkpointing every access recomputes the tensors.
        inputs, mean, inverse_std, *rest = ctx.saved_tensors
        gamma, beta, kernel_1, bias_1, kernel_2, bias_2, scale, *chunks = rest
        params = BlockParams(gamma, beta, kernel_1, bias_1, kernel_2, bias_2, scale)
        hidden, unscaled = chunks[: ctx.chunks], chunks[ctx.chunks :]
        if torch.is_grad_enabled():  # for gradients of the gradients
            arguments = ctx.epsilon, inputs, *params
            return double_backward(_plain, arguments, output_gradient, ctx.needs_input_grad)
        _, inputs_need, *params_need = ctx.needs_input_grad
        needed = BlockParams(*params_need)
        normed, _, _ = _native_layer_norm(inputs, params, ctx.epsilon)
        normed_gradients: list[torch.Tensor] = []

        def gradients_by_chunk():
            parts = _chunks(normed, kernel_1), _chunks(output_gradient, kernel_1), hidden, unscaled
            for chunk in zip(*parts, strict=True):
                normed_gradient, gradients = _chunk_gradients(*chunk, params, needed)
                normed_gradients.append(normed_gradient)
                yield gradients

        totals = functools.reduce(_add, gradients_by_chunk())
        if scale is not None and unscaled[0] is None:
            totals = _apply_scale(totals, params)
        inputs_gradient, gamma_gradient, beta_gradient = torch.ops.aten.native_layer_norm_backward(
            _join(normed_gradients, inputs.shape),
            inputs,
            gamma.shape,
            mean,
            inverse_std,
            gamma,
            beta,
            [inputs_need, needed.gamma, needed.beta],
        )
        totals = totals.map_dense(lambda x: None if x is None else x.to(inputs.dtype))
        totals = totals._replace(gamma=gamma_gradient, beta=beta_gradient)
        return None, inputs_gradient, *totals


def _native_layer_norm(inputs, params, epsilon):
    """Returns LayerNorm's result, the means and the inverse standard deviations."""
    return torch.native_layer_norm(inputs, params.gamma.shape, params.gamma, params.beta, epsilon)


def _chunk_gradients(rows, output_gradient, hidden, unscaled, params, needed):
    """Returns the gradients of the rows, and those of the dense layers and layer scale.

    Where the input of layer scale was not saved, the gradients of the second layer are those
    without layer scale; see `_apply_scale`.
    """
    scaled_gradient = _scaled(output_gradient, params.scale)
    second_gradient = output_gradient if unscaled is None else scaled_gradient
    activated = gelu(hidden)
    second_needs = needed.kernel_2 or needed.scale
    kernel_2_gradient = activated.t() @ second_gradient if second_needs else None
    # `activated` is not needed any more, so its memory is reused.
    hidden_gradient = torch.mm(scaled_gradient, params.kernel_2.t(), out=activated)
    torch.ops.aten.gelu_backward.grad_input(hidden_gradient, hidden, grad_input=hidden_gradient)
    scale_gradient = None
    if unscaled is not None:
        scale_gradient = _reduce_product(output_gradient, unscaled, params.scale.dtype)
    return matmul(hidden_gradient, params.kernel_1.t()), BlockParams(
        None,
        None,
        rows.t() @ hidden_gradient if needed.kernel_1 else None,
        hidden_gradient.sum(0),
        kernel_2_gradient,
        second_gradient.sum(0),
        scale_gradient,
    )


def _apply_scale(gradients, params):
    """Returns the gradients with those of layer scale, which the second layer's lack so far."""
    kernel, bias, scale = gradients.kernel_2, gradients.bias_2, params.scale
    if kernel is None:  # neither the kernel nor layer scale needs a gradient
        return gradients._replace(bias_2=bias * scale)
    scale_gradient = _reduce_product(kernel, params.kernel_2, scale.dtype) + bias * params.bias_2
    return gradients._replace(kernel_2=kernel * scale, bias_2=bias * scale, scale=scale_gradient)


def _reduce_product(a, b, dtype):
    """Returns the sum of the rows of the elementwise product of two matrices."""
    return torch.sum(a.to(dtype) * b, 0)


def _add(totals, gradients):
    """Adds the gradients of a chunk in float32: in bfloat16 the sums would stop growing."""
    return BlockParams(*map(_add_tensors, totals, gradients))


def _add_tensors(total, gradient):
    if gradient is None:
        return None
    return total.to(torch.promote_types(total.dtype, torch.float32)).add_(gradient)


def _chunks(x, kernel):
    """Returns the rows of `x` in chunks whose hidden units fit the cache of a CPU."""
    rows = x.reshape(-1, x.shape[-1])
    size = rows.shape[0] * kernel.shape[1] * rows.element_size()
    count = math.ceil(size / HIDDEN_BYTES_PER_CHUNK) if rows.device.type == "cpu" else 1
    return rows.chunk(max(count, 1))


def _join(chunks, shape):
    return (chunks[0] if len(chunks) == 1 else torch.cat(chunks)).view(shape)
