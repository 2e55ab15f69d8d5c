"""PyTorch's private names, each with a public fallback.

All were tested with PyTorch 2.6 to 2.13. Where a version lacks one, the fallback is slower and
gives the same results. `tests/test_private_apis.py` checks that the names exist.
"""

from typing import Any

import torch
from torch.autograd import forward_ad
from torch.nn.functional import gelu, linear
from torch.optim.adamw import adamw


def linear_pointwise(inputs, weight, bias, with_gelu: bool):
    """Returns `linear(inputs, weight, bias)`, with exact GELU if asked for, by oneDNN.

    PyTorch's compiler uses this operation. It is faster than `linear`, which calls MKL in float32,
    and fuses GELU.
    """
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        outputs = linear(inputs, weight, bias)
        return gelu(outputs) if with_gelu else outputs
    activation: tuple[str, list, str] = ("gelu", [], "none") if with_gelu else ("none", [], "")
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, *activation)


def onednn_supports_bfloat16() -> bool:
    """Whether oneDNN computes in bfloat16 on this CPU; it ends with an error where it does not."""
    if not hasattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported"):
        return False
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def fused_adamw_(update, parameters, gradients, moments: Any, **settings: Any) -> None:
    """Applies AdamW to a list of tensors in place, in one pass over each.

    This is the operation behind `torch.optim.AdamW(fused=True)`.

    Args:
        update: Number of this update, from 1, a scalar tensor.
        parameters: List of tensors.
        gradients: List of tensors.
        moments: Three lists of tensors: `exp_avg`, `exp_avg_sq` and `max_exp_avg_sq`.
        **settings: `lr`, `beta1`, `beta2`, `weight_decay`, `eps`, `amsgrad` and `maximize`.
    """
    fused: Any = getattr(torch, "_fused_adamw_", None)
    if fused is not None:
        fused(parameters, gradients, *moments, [update], **settings)
        return
    exp_avgs, exp_avg_sqs, max_exp_avg_sqs = moments
    adamw(
        parameters,
        gradients,
        exp_avgs,
        exp_avg_sqs,
        max_exp_avg_sqs,
        [update - 1 for _ in parameters],  # which it counts itself
        fused=True,
        **settings,
    )


def transforms_are_active() -> bool:
    """Whether a transform of `torch.func` or forward-mode differentiation is running.

    Where it cannot be told, the answer is yes: the caller then uses plain operations, which are
    correct in either case.
    """
    try:
        functorch = torch._C._are_functorch_transforms_active()  # as `autograd.Function` asks
        level = forward_ad._current_level
    except AttributeError:
        return True
    return functorch or level >= 0


def is_in_backward_pass() -> bool | None:
    """Whether a backward pass is running; `None` if it cannot be told."""
    if not hasattr(torch._C, "_current_graph_task_id"):  # `torch.utils.checkpoint` asks it too
        return None
    return torch._C._current_graph_task_id() != -1
