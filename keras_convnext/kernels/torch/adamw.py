"""AdamW's update for PyTorch, by the operation behind `torch.optim.AdamW(fused=True)`.

It goes over a weight, its gradient and its averages once, where single operations go over them ten
times: on a processor that is a third of a train step of one image.
"""

from collections.abc import Callable

import torch

from keras_convnext.kernels.shapes import wrong_gradient


def adamw(update, rate, betas, epsilon: float) -> Callable:
    """Returns the function that moves a weight and its averages in place, in one step.

    Args:
        update: The number of this update, from 1; a scalar tensor in float32.
        rate: The learning rate, a scalar tensor.
        betas: What each average keeps of itself in an update.
        epsilon: Added to the root in the denominator.

    Returns:
        A function of a weight, a variable; its gradient, a tensor like it; the moving averages of
        its gradients and of their squares, variables; with AMSGrad the greatest that the latter
        ever was, else `None`; the factor on its learning rate; and its decoupled weight decay,
        which the rate is multiplied with.
    """

    @torch.no_grad()
    def move(weight, gradient, mean, square, greatest, scale: float, decay: float) -> None:
        if gradient.shape != weight.value.shape:  # the operation would read past its end
            raise wrong_gradient(gradient, weight)
        torch._fused_adamw_(
            [weight.value],
            # The operation goes through memory as it lies, so all must lie in the same order.
            [gradient.contiguous()],
            [mean.value],
            [square.value],
            [] if greatest is None else [greatest.value],
            [update],
            lr=rate * scale,
            beta1=betas[0],
            beta2=betas[1],
            weight_decay=decay,
            eps=epsilon,
            amsgrad=greatest is not None,
            maximize=False,
        )

    return move
