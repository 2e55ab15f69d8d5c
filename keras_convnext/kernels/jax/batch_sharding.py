"""Splits the kernels over the batch, so that every device computes its own images.

XLA splits an operation over devices if it knows how. It does not know that of the loops over images
and over chunks of rows in these kernels, nor of oneDNN's calls, and would gather all images on all
devices. Under a distribution of Keras the kernels are therefore mapped over the mesh.
"""

import contextvars
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import keras
from jax.sharding import Mesh, PartitionSpec

if hasattr(jax, "shard_map"):
    # The kernels have gradients of their own, whose types JAX would otherwise check.
    _shard_map = functools.partial(jax.shard_map, check_vma=False)
else:  # before JAX 0.6
    from jax.experimental.shard_map import shard_map

    _shard_map = functools.partial(shard_map, check_rep=False)

_has_own_images: contextvars.ContextVar[bool] = contextvars.ContextVar("split", default=False)


def split_over_batch(kernel: Callable, for_sharded_weights: Callable | None = None) -> Callable:
    """Returns a kernel that is split over the batch under `keras.distribution`.

    All weights are whole on each device, and their gradients are summed over the devices once. On
    one device, and for a batch that the devices cannot share equally, the kernel itself is called.

    Args:
        kernel: An operation of `kernels.reference`, whose first argument has the batch as its first
            axis. Its other arguments are weights, `epsilon` and `training`, which it ignores.
        for_sharded_weights: What is called instead if the mesh has more axes than the batch's, over
            which the weights may be sharded. XLA splits it. Defaults to the kernel.
    """
    signature = inspect.signature(kernel)

    @functools.wraps(kernel)
    def split(*args, **kwargs):
        distribution = keras.distribution.distribution()
        if distribution is None:
            return kernel(*args, **kwargs)
        mesh, axis = _mesh_and_axis(distribution)
        if for_sharded_weights is not None and mesh.size > mesh.shape[axis]:
            return for_sharded_weights(*args, **kwargs)
        operands = signature.bind(*args, **kwargs).arguments
        operands.pop("training", None)  # within `jax.checkpoint` it is traced
        settings = {name: operands.pop(name) for name in ("epsilon",) if name in operands}
        inputs, *weights = operands.values()
        if not _is_shared_equally(inputs.shape[0], mesh.shape[axis]):
            return kernel(*args, **kwargs)
        return _mapped(kernel, mesh, axis, **settings)(inputs, *weights)

    return split


def has_whole_arrays() -> bool:
    """Whether the arrays of the kernel that is being traced are not sharded: each is on one device.

    Only then can it call what XLA cannot split. Gradients are traced later, so ask in the kernel.
    """
    return _has_own_images.get() or jax.device_count() == 1


def _mesh_and_axis(distribution: Any) -> tuple[Mesh, str]:
    """Returns the mesh of a Keras distribution, and the name of its axis for the batch."""
    mesh = distribution.device_mesh
    return mesh.backend_mesh, distribution.batch_dim_name or mesh.axis_names[0]


def _is_shared_equally(images: Any, devices: int) -> bool:
    # In an export the number of images is symbolic.
    return devices > 1 and isinstance(images, int) and images > 0 and images % devices == 0


@functools.cache  # JAX would trace and compile a new function again
def _mapped(kernel: Callable, mesh: Mesh, axis: str, **settings: float) -> Callable:
    def of_own_images(inputs, *weights):
        token = _has_own_images.set(True)
        try:
            return kernel(inputs, *weights, **settings)
        finally:
            _has_own_images.reset(token)

    images = PartitionSpec(axis)

    def of_all_images(inputs, *weights):
        specs = images, *(PartitionSpec() for _ in weights)
        mapped = _shard_map(of_own_images, mesh=mesh, in_specs=specs, out_specs=images)
        return mapped(inputs, *weights)

    return jax.jit(of_all_images)
