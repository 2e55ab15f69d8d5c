"""Runs an action when Keras is imported, without importing it. Imports no backend."""

import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec


def when_keras_is_imported(action: Callable[[], object]) -> None:
    """Runs an action once: now if Keras is imported, otherwise directly after its import.

    Importing Keras fixes the backend, so this module leaves the import to the user's code.

    Args:
        action: A function without arguments.
    """
    if "keras" in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, _KerasFinder(action))


class _KerasFinder:
    """Finds Keras by the other finders, and makes its loader run an action afterwards.

    It stays in `sys.meta_path` until Keras is loaded, since an import that failed, such as with a
    missing backend, may be repeated.
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
            del loader.exec_module  # restore the loader
            load(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                self._action()

        loader.exec_module = load_and_act  # on this loader only, not on its class
