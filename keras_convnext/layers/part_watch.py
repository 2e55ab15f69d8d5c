"""Finds settings of a layer's parts that only the `__call__` of the part handles."""

from collections.abc import Iterable

import keras

# Private names: where PyTorch 2.6 to 2.13 stores the hooks of a module. A canary test checks them.
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


class PartWatch:
    """Tells whether a layer's parts must be called through `__call__`.

    That is the case if a part has hooks (on PyTorch), an activity regularizer, or an activation
    that the network does not have. The check takes less than a microsecond, since it runs in every
    call.

    Args:
        parts: The built layers.
    """

    def __init__(self, parts: Iterable[keras.layers.Layer]) -> None:
        self._parts = tuple(parts)
        self._with_activation = tuple(part for part in self._parts if hasattr(part, "activation"))
        # PyTorch adds hooks to these dictionaries later, so they are referenced, not copied.
        self._hooks = tuple(
            part.__dict__[name] for part in self._parts for name in HOOKS if name in part.__dict__
        )

    def finds_something(self) -> bool:
        """Whether a part has such a setting."""
        if any(self._hooks):
            return True
        for part in self._parts:
            if part.activity_regularizer is not None:
                return True
        return any(
            part.activation is not keras.activations.linear for part in self._with_activation
        )
