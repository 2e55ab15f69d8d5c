"""The results of metrics over all processes."""

import contextlib
from collections.abc import Iterable

import keras
import torch
import torch.distributed as dist


def over_all_processes(
    metrics: Iterable[keras.metrics.Metric],
) -> contextlib.AbstractContextManager:
    """Returns a context in which the metrics have the states of all processes together.

    All processes must call it. Their own states stay as they are. A state is combined as its
    variable says by `aggregation`, which is the sum unless the metric's author chose another.

    Args:
        metrics: The same metrics in every process.
    """
    variables = [variable for metric in metrics for variable in metric.variables]
    if not variables:
        return contextlib.nullcontext()
    return keras.StatelessScope(state_mapping=_combined(variables))


@torch.no_grad()
def _combined(variables) -> list[tuple]:
    states = [variable.value.detach() for variable in variables]
    # In float64, so that large counts stay exact.
    sums = torch.cat(
        [
            state.reshape(-1).double() * _share(variable)
            for state, variable in zip(states, variables, strict=True)
        ]
    )
    dist.all_reduce(sums)
    parts = sums.split([state.numel() for state in states])
    return [
        (variable, state if _is_own(variable) else part.reshape(state.shape).to(state.dtype))
        for variable, state, part in zip(variables, states, parts, strict=True)
    ]


def _is_own(variable) -> bool:
    return variable.aggregation == "none"


def _share(variable) -> float:
    """Returns the factor of this process's state in the sum over all processes."""
    if variable.aggregation == "mean":
        return 1 / dist.get_world_size()
    if variable.aggregation == "only_first_replica":
        return float(dist.get_rank() == 0)
    return 1.0
