"""AdamW's update for PyTorch, by the operation behind `torch.optim.AdamW(fused=True)`.

It goes over a weight, its gradient and its averages once, where single operations go over them ten
times: on a processor that is a third of a train step of one image.
"""

import torch


def adamw(
    weight, gradient, mean, square, greatest, update, rate, decay: float, betas, epsilon: float
) -> None:
    """Moves a weight and its averages in place.

    Args:
        weight: Variable.
        gradient: Tensor like it.
        mean: Moving average of the gradients, a variable like the weight.
        square: Moving average of their squares.
        greatest: With AMSGrad the greatest that `square` ever was; else `None`.
        update: The number of this update, from 1; a scalar tensor.
        rate: The learning rate, a scalar tensor.
        decay: Decoupled weight decay, which the rate is multiplied with.
        betas: What each average keeps of itself in an update.
        epsilon: Added to the root in the denominator.
    """
    with torch.no_grad():
        torch._fused_adamw_(
            [weight.value],
            # The operation goes through memory as it lies, so all must lie in the same order.
            [gradient.contiguous()],
            [mean.value],
            [square.value],
            [] if greatest is None else [greatest.value],
            [update.to(torch.float32)],
            lr=rate,
            beta1=betas[0],
            beta2=betas[1],
            weight_decay=decay,
            eps=epsilon,
            amsgrad=greatest is not None,
            maximize=False,
        )
