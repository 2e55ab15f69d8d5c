"""Random draws for PyTorch that are repeated when checkpointing recomputes a layer."""

from collections.abc import Callable

import torch

from keras_convnext.kernels.torch.double_backward import needs_plain_operations
from keras_convnext.kernels.torch.private import is_in_backward_pass

MAX_SAVED = 1024  # calls of a layer before their backward pass, as in gradient accumulation


class RepeatableDraws:
    """The latest draws of a layer, which are reused when the layer is recomputed.

    Keras's seed generators advance when they are called again. `torch.utils.checkpoint` resets
    PyTorch's own generator before it recomputes, so a number drawn from that one identifies the
    call.
    """

    def __init__(self) -> None:
        self._draws: dict[int, torch.Tensor] = {}

    def __call__(self, draw: Callable[[], torch.Tensor]) -> torch.Tensor:
        if needs_plain_operations():
            return draw()
        call = int(torch.randint(2**62, ()))
        in_backward_pass = is_in_backward_pass()
        if in_backward_pass or (in_backward_pass is None and call in self._draws):
            return self._saved(call)
        if len(self._draws) == MAX_SAVED:
            del self._draws[next(iter(self._draws))]
        self._draws[call] = draw()
        return self._draws[call]

    def _saved(self, call: int) -> torch.Tensor:
        if call not in self._draws:
            raise ValueError(
                f"A layer with random draws is recomputed in the backward pass, and its draws were "
                f"not found. Leave `preserve_rng_state=True` in `torch.utils.checkpoint`, and call "
                f"the layer at most {MAX_SAVED} times before the backward pass."
            )
        return self._draws[call]
