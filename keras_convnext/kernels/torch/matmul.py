"""Matrix multiplications for PyTorch by oneDNN, where it can be used; not differentiable."""

import functools

import torch
from torch.nn.functional import gelu, linear

from keras_convnext.kernels.torch import private


def matmul(inputs, kernel, bias=None, with_gelu: bool = False):
    """Returns `inputs @ kernel + bias`, with GELU if asked for.

    Args:
        inputs: Tensor of shape `(..., rows of the kernel)`.
        kernel: Matrix.
        bias: Tensor with a value for each column of the kernel, or `None`.
        with_gelu: Whether to apply exact GELU.
    """
    if inputs.device.type == "cpu" and inputs.dtype in _onednn_dtypes() and inputs.numel():
        return private.linear_pointwise(inputs, kernel.t(), bias, with_gelu)
    outputs = linear(inputs, kernel.t(), bias)
    return gelu(outputs) if with_gelu else outputs


@functools.cache
def _onednn_dtypes() -> frozenset[torch.dtype]:
    if not torch.backends.mkldnn.is_available():
        return frozenset()
    dtypes = {torch.float32}
    if private.onednn_supports_bfloat16():
        dtypes.add(torch.bfloat16)
    return frozenset(dtypes)
