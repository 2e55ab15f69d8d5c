"""Derivatives for PyTorch where those written by hand do not serve, as it cannot derive them."""

from collections.abc import Callable, Sequence

import torch
from torch.autograd import forward_ad


def differentiable_gradients(
    function: Callable, arguments: Sequence, output_gradient, needed: Sequence[bool]
) -> tuple:
    """Returns the gradients of a function that PyTorch can differentiate, in the same way again.

    Args:
        function: Does what the kernel does, by PyTorch's own operations.
        arguments: What it was called with.
        output_gradient: Gradient of its result.
        needed: For each argument whether its gradient is asked for; if not, it is `None`.
    """
    wanted = [argument for argument, need in zip(arguments, needed, strict=True) if need]
    outputs = function(*arguments)
    gradients = iter(torch.autograd.grad(outputs, wanted, output_gradient, create_graph=True))
    return tuple(next(gradients) if need else None for need in needed)


def plain_operations_needed() -> bool:
    """Whether only PyTorch's own operations will do, whose every derivative it knows.

    That is so where it compiles, in the transforms of `torch.func`, and in forward-mode
    differentiation: neither oneDNN's operations nor gradients written by hand go through them.
    """
    # Private names, the same from PyTorch 2.6 to 2.13; `torch.autograd.Function` asks the first.
    return (
        torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or torch.compiler.is_compiling()
    )


def is_in_backward_pass() -> bool:
    """Whether a backward pass is running, in which layers are called to be recomputed."""
    return torch._C._current_graph_task_id() != -1  # private; `torch.utils.checkpoint` asks it too
