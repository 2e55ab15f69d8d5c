"""Copies of variables between processes."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import keras
import torch
import torch.distributed as dist

from keras_convnext.errors import UserError


@torch.no_grad()
def copy_from_first_process(variables: Sequence[keras.Variable]) -> None:
    """Gives the variables the values that they have in the process with rank 0.

    All processes must call it.

    Raises:
        UserError: In all processes, if they do not have the same variables.
    """
    if not dist.is_initialized():
        return
    _check_equal([_Described(one.path, tuple(one.shape), one.dtype) for one in variables])
    for variable in variables:
        values = variable.value.detach()
        # As bytes, since gloo and NCCL do not know every dtype.
        sent = values.reshape(-1).contiguous().view(torch.uint8)
        dist.broadcast(sent, src=0)
        values.copy_(sent.view(values.dtype).reshape(values.shape))


class _Described(NamedTuple):
    path: str
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.path} of shape {self.shape} and dtype {self.dtype}"

    def fits(self, other: "_Described") -> bool:
        # Names may be numbered differently, where a process has created other models too.
        return self[1:] == other[1:]


def _check_equal(own: list[_Described]) -> None:
    of_all: list = [None] * dist.get_world_size()
    dist.all_gather_object(of_all, own)
    for rank, others in enumerate(of_all):
        for first, other in itertools.zip_longest(of_all[0], others):
            if first is None or other is None or not first.fits(other):
                raise UserError(
                    f"All processes must create the same model and compile it in the same way. The "
                    f"process with rank 0 has {first or 'no variable'} where that with rank {rank} "
                    f"has {other or 'no variable'}."
                )
