"""Copies of variables between processes."""

from collections.abc import Sequence

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
    _check_equal([(variable.path, tuple(variable.shape), variable.dtype) for variable in variables])
    for variable in variables:
        values = variable.value.detach()
        # As bytes, since gloo and NCCL do not know every dtype.
        sent = values.reshape(-1).contiguous().view(torch.uint8)
        dist.broadcast(sent, src=0)
        values.copy_(sent.view(values.dtype).reshape(values.shape))


def _check_equal(described: list[tuple]) -> None:
    of_all: list = [None] * dist.get_world_size()
    dist.all_gather_object(of_all, described)
    for rank, others in enumerate(of_all):
        if others != of_all[0]:
            different = next(
                (pair for pair in zip(of_all[0], others, strict=False) if pair[0] != pair[1]),
                (f"{len(of_all[0])} variables", f"{len(others)} variables"),
            )
            raise UserError(
                f"All processes must create the same model and compile it in the same way. The "
                f"process with rank 0 has {different[0]} where that with rank {rank} has "
                f"{different[1]}."
            )
