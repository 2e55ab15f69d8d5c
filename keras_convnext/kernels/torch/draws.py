"""Random draws for PyTorch that are the same when checkpointing recomputes a layer."""

from collections.abc import Callable

import torch

from keras_convnext.kernels.torch.double_backward import (
    is_in_backward_pass,
    plain_operations_needed,
)

MOST_KEPT = 1024  # calls of a layer before their backward pass, as in gradient accumulation


class RepeatableDraws:
    """The latest draws of a layer, found again where the layer is recomputed.

    Keras's seed generators go on to their next state when they are called again. PyTorch's own
    generator is put back by `torch.utils.checkpoint` before it recomputes, so a number drawn from
    it tells which call is recomputed.
    """

    def __init__(self) -> None:
        self._draws: dict[int, torch.Tensor] = {}

    def __call__(self, draw: Callable[[], torch.Tensor]) -> torch.Tensor:
        if plain_operations_needed():
            return draw()
        call = int(torch.randint(2**62, ()))
        if is_in_backward_pass():
            return self._draws_of(call)
        if len(self._draws) == MOST_KEPT:
            del self._draws[next(iter(self._draws))]
        self._draws[call] = draw()
        return self._draws[call]

    def _draws_of(self, call: int) -> torch.Tensor:
        if call not in self._draws:
            raise ValueError(
                f"A layer with random draws is recomputed for its gradients, and its draws cannot "
                f"be found. Leave `preserve_rng_state=True` in `torch.utils.checkpoint`, and call "
                f"the layer no more than {MOST_KEPT} times before the backward pass."
            )
        return self._draws[call]
