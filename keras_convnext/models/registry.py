"""Networks by name: a row of the table in `catalog.architectures` becomes a model."""

import importlib
from collections.abc import Callable
from typing import Any

import keras

from keras_convnext.catalog.architectures import Network, get_network
from keras_convnext.catalog.checkpoints import Checkpoint, resolve
from keras_convnext.catalog.preprocessing import OFFICIAL
from keras_convnext.errors import WeightsError


def create_model(name: str, /, **kwargs: Any) -> keras.Model:
    """Builds a model by its name.

    Args:
        name: Name of the model, such as `"convnext_tiny"`: one of `list_models()`, or `"resnet50"`,
            which the paper compares with.
        **kwargs: Arguments of the network's builder, in place of the named model's: those of
            `ConvNeXt` from `patch_size` on. As `weights` the tag of a published checkpoint is
            enough, such as `"fb_in22k"`, and `"imagenet"` means the checkpoint that
            `keras.applications` has: trained on ImageNet-1K for tiny and small; on ImageNet-22K,
            then 1K, for base, large and xlarge. The model normalizes its images as the checkpoint
            expects.

    Raises:
        ValueError: If there is no such model; the message names the nearest.
        WeightsError: If `weights` names the checkpoint of another model, or there are no weights
            for the network.

    Example:
        >>> model = keras_convnext.create_model("convnext_small", classes=10)
    """
    return build(get_network(name), **kwargs)


def build(network: Network, **kwargs: Any) -> keras.Model:
    """Builds the network of a row; see `create_model`.

    Args:
        network: The row.
        **kwargs: Arguments of its builder, in place of the row's.
    """
    arguments = {**network.arguments, **kwargs}
    arguments["name"] = arguments.get("name") or network.name
    weights = resolve(arguments.pop("weights", None), network.name)
    if weights is not None:
        if not network.takes_weights:
            raise WeightsError(
                f"There are no weights for {network.name}; pass weights=None. Received: "
                f"weights={weights!r}."
            )
        arguments["weights"] = weights
    if not isinstance(weights, Checkpoint):  # a checkpoint has a row of its own
        arguments = _with_defaults(network, arguments)
    return _builder(network)(**arguments)


def _with_defaults(network: Network, arguments: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments with the row's normalization and image size if they are not given.

    Builders have the same defaults as most rows. A row that shares them leaves them to the builder,
    which may know better: a `.keras` file stores its normalization.
    """
    mean, std = network.preprocessing.mean, network.preprocessing.std
    given = arguments.get("mean") is not None or arguments.get("std") is not None
    if not given and (mean, std) != (OFFICIAL.mean, OFFICIAL.std):
        arguments = {**arguments, "mean": mean, "std": std}
    has_shape = any(arguments.get(key) is not None for key in ("input_shape", "input_tensor"))
    has_top = arguments.get("include_top", True)
    if has_top and not has_shape and network.image_size != Network.image_size:
        size = (network.image_size, network.image_size)
        first = keras.config.image_data_format() == "channels_first"
        arguments = {
            **arguments,
            "input_shape": (len(mean), *size) if first else (*size, len(mean)),
        }
    return arguments


def _builder(network: Network) -> Callable[..., keras.Model]:
    module, _, function = network.builder.partition(":")
    return getattr(importlib.import_module(module), function)
