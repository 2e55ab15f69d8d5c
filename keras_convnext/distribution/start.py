"""Starts the engine that a recipe asks for."""

import contextlib
import importlib
from collections.abc import Iterator

import keras

from keras_convnext.distribution.engine import ONE_DEVICE, Engine
from keras_convnext.errors import UserError
from keras_convnext.recipe import Distribution


@contextlib.contextmanager
def started(settings: Distribution) -> Iterator[Engine]:
    """Yields the engine of a recipe's section `distribution`; leaves its processes at the end.

    Raises:
        UserError: If the devices or processes are not there, or the backend cannot use them so.
    """
    package = f"keras_convnext.distribution.{keras.backend.backend()}"
    name = _chosen(settings, importlib.import_module(f"{package}.available"))
    if name == "none":
        yield ONE_DEVICE
        return
    module = importlib.import_module(f"{package}.engine")
    engine = module.make_engine(name, settings.devices, settings.model_shards)
    try:
        yield engine
    finally:
        engine.close()


def _chosen(settings: Distribution, available) -> str:
    """Returns the name in the settings, with `auto` replaced by what is there."""
    processes = available.launched_processes()
    if settings.name == "none" and processes > 1:
        raise UserError(
            f"This is one of {processes} processes, but distribution.name is none, which trains in "
            f"one. Pass distribution=data_parallel, or start one process."
        )
    if settings.name != "auto":
        return settings.name
    # JAX cannot join processes any more once its devices have been counted.
    is_alone = processes == 1 and (settings.devices or available.visible_devices()) == 1
    return "none" if is_alone else "data_parallel"
