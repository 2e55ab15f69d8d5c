"""Products of matrices for PyTorch by oneDNN, as its compiler takes them; without gradients."""

import functools

import torch
from torch.nn.functional import gelu, linear


def product(inputs, kernel, bias=None, with_gelu: bool = False):
    """Returns `inputs @ kernel + bias`, or GELU of it.

    Args:
        inputs: Tensor of shape `(..., rows of the kernel)`.
        kernel: Matrix.
        bias: Tensor with a value for each column of the kernel, or `None`.
        with_gelu: Whether exact GELU is taken of the sum.
    """
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
