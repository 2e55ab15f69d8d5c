"""Something done as soon as Keras is there, without importing it. Imports no backend."""

import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec


def when_keras_is_imported(action: Callable[[], object]) -> None:
    """Does something once: now if Keras has been imported, else right after it is.

    An import of Keras chooses the backend, by KERAS_BACKEND, so it is left to whoever needs it.
    """
    if "keras" in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, _KerasFinder(action))


class _KerasFinder:
    """Finds Keras as the other finders do, and adds an action to what its loader does.

    It stays until Keras has been loaded: an import that fails, as with a backend that is not
    installed, may be tried again.
    """

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> "ModuleSpec | None":
        if fullname != "keras":
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            self._add_action(spec.loader)
        return spec

    def _add_action(self, loader):
        load = loader.exec_module

        def load_and_act(module):
            del loader.exec_module  # the loader is left as it was
            load(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                self._action()

        loader.exec_module = load_and_act  # of this import's loader alone, not of its class
