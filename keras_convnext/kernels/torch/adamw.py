"""AdamW for PyTorch, by the fused operation behind `torch.optim.AdamW(fused=True)`.

It makes one pass over a weight, its gradient and its moments. As single operations there would be
ten passes, a third of a train step on one image on CPU.
"""

from collections.abc import Callable, Sequence

import torch

from keras_convnext.kernels.shapes import wrong_gradient
from keras_convnext.kernels.torch.private import fused_adamw_


def adamw(update, learning_rate, betas: Sequence[float], epsilon: float) -> Callable:
    """Has the contract of `reference.adamw`."""

    @torch.no_grad()
    def apply(variable, gradient, moments, lr_multiplier: float, weight_decay: float) -> None:
        if gradient.shape != variable.value.shape:  # the operation would read past its end
            raise wrong_gradient(gradient, variable)
        amsgrad = moments.max_exp_avg_sq is not None
        fused_adamw_(
            update,
            [variable.value],
            # The operation reads memory in order, so all tensors must have the same strides.
            [gradient.contiguous()],
            [[] if moment is None else [moment.value] for moment in moments],
            lr=learning_rate * lr_multiplier,
            beta1=betas[0],
            beta2=betas[1],
            weight_decay=weight_decay,
            eps=epsilon,
            amsgrad=amsgrad,
            maximize=False,
        )

    return apply
