"""Settings of a layer's parts, which the layer's config saves."""

from collections.abc import Iterable, Mapping
from typing import Any

import keras

# Settings of parts that follow from the layer's own config, and LayerNorm's axis, which becomes a
# list when it is built.
KEPT_BY_THE_LAYER = ("name", "dtype", "trainable", "rate", "axis")


class PartSettings:
    """Creates the parts of a layer, and finds what was changed on them since.

    Args:
        arguments: Further constructor arguments of the parts, by the name of the part.
    """

    def __init__(self, arguments: Mapping[str, Mapping[str, Any]]) -> None:
        self._arguments = {name: dict(each) for name, each in arguments.items()}
        self._defaults: dict[str, dict] = {}

    def make(self, kind: type[keras.layers.Layer], name: str, *args, **kwargs):
        """Creates a part, with the further arguments for its name."""
        part = kind(*args, name=name, **kwargs)
        self._defaults[name] = part.get_config()
        if name not in self._arguments:
            return part
        return kind.from_config({**part.get_config(), **self._arguments[name]})

    def names(self) -> list[str]:
        """Returns the names of the parts created so far."""
        return list(self._defaults)

    def set_default(self, part: keras.layers.Layer, name: str) -> None:
        """Marks the current value of a part's argument as part of the layer's own config."""
        self._defaults[part.name][name] = part.get_config()[name]
        self._arguments.get(part.name, {}).pop(name, None)

    def changed(self, parts: Iterable[keras.layers.Layer], trainable: bool) -> dict[str, dict]:
        """Returns the arguments that create the parts as they are now, by the name of the part.

        Args:
            parts: The parts created so far; some are created when the layer is built.
            trainable: Whether the layer is trainable; if it is not, no part is.
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
