"""What was set on the parts of a layer, kept in the layer's config."""

from collections.abc import Iterable, Mapping
from typing import Any

import keras

# What the config of the layer itself says of its parts, and LayerNorm's axis, which Keras writes
# as a list once it is built.
KEPT_BY_THE_LAYER = ("name", "dtype", "trainable", "rate", "axis")


class PartSettings:
    """Makes the parts of a layer, and tells what has been set on them since.

    Args:
        arguments: Further arguments of the parts' constructors, by the name of the part.
    """

    def __init__(self, arguments: Mapping[str, Mapping[str, Any]]) -> None:
        self._arguments = {name: dict(each) for name, each in arguments.items()}
        self._defaults: dict[str, dict] = {}

    def make(self, kind: type[keras.layers.Layer], name: str, *args, **kwargs):
        """Makes a part, with the arguments that are there for it."""
        part = kind(*args, name=name, **kwargs)
        self._defaults[name] = part.get_config()
        if name not in self._arguments:
            return part
        return kind.from_config({**part.get_config(), **self._arguments[name]})

    def names(self) -> list[str]:
        """Returns the names of the parts made so far."""
        return list(self._defaults)

    def set_default(self, part: keras.layers.Layer, name: str) -> None:
        """Takes the present value of an argument as one that the layer's config accounts for."""
        self._defaults[part.name][name] = part.get_config()[name]
        self._arguments.get(part.name, {}).pop(name, None)

    def changed(self, parts: Iterable[keras.layers.Layer], trainable: bool) -> dict[str, dict]:
        """Returns the arguments that make the parts as they are now, by the name of the part.

        Args:
            parts: Those of the layer that there are: others are made when it is built.
            trainable: Whether the layer is; where it is not, no part is.
        """
        arguments = dict(self._arguments)
        for part in parts:
            arguments[part.name] = self._changes_of(part)
            if trainable and not part.trainable:
                arguments[part.name]["trainable"] = False
        return {name: each for name, each in arguments.items() if each}

    def _changes_of(self, part) -> dict:
        default = self._defaults[part.name]
        return {
            name: value
            for name, value in part.get_config().items()
            if name not in KEPT_BY_THE_LAYER and value != default.get(name)
        }
