"""Derivatives for PyTorch in the cases that a hand-written backward pass does not cover."""

from collections.abc import Callable, Sequence

import torch

from keras_convnext.kernels.torch import private


def double_backward(
    function: Callable, arguments: Sequence, output_gradient, needed: Sequence[bool]
) -> tuple:
    """Returns a function's gradients as PyTorch computes them, which can be differentiated again.

    Args:
        function: Computes the same as the kernel, with PyTorch's own operations.
        arguments: The arguments it was called with.
        output_gradient: Gradient of its result.
        needed: For each argument, whether its gradient is needed; if not, it is `None`.
    """
    wanted = [argument for argument, need in zip(arguments, needed, strict=True) if need]
    outputs = function(*arguments)
    gradients = iter(torch.autograd.grad(outputs, wanted, output_gradient, create_graph=True))
    return tuple(next(gradients) if need else None for need in needed)


def needs_plain_operations() -> bool:
    """Whether only PyTorch's own operations can be used, whose every derivative it knows.

    That is the case in its compiler, in transforms of `torch.func` and in forward-mode
    differentiation, which support neither oneDNN's operations nor a hand-written backward pass.
    """
    return private.transforms_are_active() or torch.compiler.is_compiling()
