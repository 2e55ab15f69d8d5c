"""`data_parallel`, for a user's own script."""

import keras

from keras_convnext.errors import UserError

INSTEAD = {
    "tensorflow": "create and compile the model within `tf.distribute.MirroredStrategy().scope()`",
    "jax": "call `keras.distribution.set_distribution(keras.distribution.DataParallel())` before "
    "the model is created",
}


def data_parallel(
    model: keras.Model, find_unused_parameters: bool = False, timeout: float | None = None
) -> None:
    """Lets `fit` and `evaluate` train a model in all processes that torchrun started, together.

    Call it after `compile`. Every process passes `fit` its own share of the images, in batches of
    the same size and as many of them. The update is then that of one process with all images: the
    gradients are reduced by PyTorch's `DistributedDataParallel` while the backward pass runs, and
    the logs are those of all images. `distribution.torch.data_parallel` has the details. On
    TensorFlow and JAX, Keras itself trains on several devices.

    Args:
        model: The compiled model.
        find_unused_parameters: Whether to look at every step for weights that the outputs do not
            depend on, as `DistributedDataParallel` calls it. Defaults to `False`.
        timeout: Seconds within which all processes must start. Defaults to the environment variable
            KERAS_CONVNEXT_START_TIMEOUT or, if it is not set, to 300.

    Raises:
        UserError: If the backend is not PyTorch, or the processes cannot be joined.

    Example:
        >>> # torchrun --nproc-per-node 4 script.py
        >>> model.compile(keras_convnext.optimizers.AdamW(1e-3), "categorical_crossentropy")
        >>> keras_convnext.data_parallel(model)
        >>> model.fit(own_images, own_labels, batch_size=16)
    """
    backend = keras.backend.backend()
    if backend != "torch":
        raise UserError(
            f"`data_parallel` is for PyTorch, and Keras runs on {backend}. There, "
            f"{INSTEAD[backend]}."
        )
    from keras_convnext.distribution.torch.data_parallel import data_parallel as on_torch

    on_torch(model, find_unused_parameters, timeout)
