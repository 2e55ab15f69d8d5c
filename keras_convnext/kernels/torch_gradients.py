"""Gradients of gradients for PyTorch, which cannot differentiate gradients written by hand."""

from collections.abc import Callable, Sequence

import torch


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
