"""How images and weights are spread over devices."""

from collections.abc import Sequence

import keras

BATCH, MODEL = "batch", "model"

# The wide kernels of a block's two dense layers hold nearly all weights. Each device computes some
# of the hidden units, and the devices' parts of the output are added up.
WIDE_KERNELS: dict[str, tuple[str | None, ...]] = {
    r".*pointwise_conv_1/kernel": (None, MODEL),
    r".*pointwise_conv_1/bias": (MODEL,),
    r".*pointwise_conv_2/kernel": (MODEL, None),
}


class _WholeIfNotDivisible:
    """A batch that the devices cannot share equally, such as an epoch's last, goes to all whole."""

    def get_data_layout(self, data_shape):
        layout = super().get_data_layout(data_shape)  # type: ignore[misc]
        images = data_shape[0] * self.num_processes  # type: ignore[attr-defined]
        if images % self.num_model_replicas == 0:  # type: ignore[attr-defined]
            return layout
        axes = [None] * len(data_shape)
        return keras.distribution.TensorLayout(axes, layout.device_mesh)


class SharedBatches(_WholeIfNotDivisible, keras.distribution.DataParallel):
    """Data parallelism in which each process feeds its own images."""


class SharedBatchesAndKernels(_WholeIfNotDivisible, keras.distribution.ModelParallel):
    """The same, and each replica of the model is spread over several devices."""


def data_parallel(devices: Sequence[str]) -> keras.distribution.DataParallel:
    """Returns a distribution in which each device has the whole model and a part of each batch."""
    return SharedBatches(devices=list(devices), auto_shard_dataset=False)


def model_parallel(devices: Sequence[str], model_shards: int) -> keras.distribution.ModelParallel:
    """Returns a distribution in which the wide kernels are spread over several devices too.

    Args:
        devices: Names of the devices, as from `keras.distribution.list_devices`.
        model_shards: Devices that share a replica of the model; divides their number.
    """
    mesh = keras.distribution.DeviceMesh(
        (len(devices) // model_shards, model_shards), (BATCH, MODEL), list(devices)
    )
    layouts = keras.distribution.LayoutMap(mesh)
    for path, axes in WIDE_KERNELS.items():
        layouts[path] = axes
    return SharedBatchesAndKernels(
        layout_map=layouts, batch_dim_name=BATCH, auto_shard_dataset=False
    )
