"""What a user has set on a layer's parts that only a part's own `__call__` knows of."""

from collections.abc import Iterable

import keras

# Where PyTorch 2.6 to 2.13 keeps the hooks of a module.
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


class PartWatch:
    """Says whether a layer's parts must be called by their own `__call__`.

    That is so where a part has hooks (on PyTorch), an activity regularizer, or an activation that
    the network does not have. It takes less than a microsecond, as it is asked at every call.

    Args:
        parts: The built layers.
    """

    def __init__(self, parts: Iterable[keras.layers.Layer]) -> None:
        self._parts = tuple(parts)
        self._with_activation = tuple(part for part in self._parts if hasattr(part, "activation"))
        # The very dictionaries, which PyTorch fills when a hook is registered.
        self._hooks = tuple(
            part.__dict__[name] for part in self._parts for name in HOOKS if name in part.__dict__
        )

    def finds_something(self) -> bool:
        """Whether there is any of that."""
        if any(self._hooks):
            return True
        for part in self._parts:
            if part.activity_regularizer is not None:
                return True
        return any(
            part.activation is not keras.activations.linear for part in self._with_activation
        )
