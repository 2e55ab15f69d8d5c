"""Put on PYTHONPATH, hides TensorFlow from Python and from the processes that it starts."""

import importlib.machinery
import sys


class WithoutTensorflow(importlib.machinery.PathFinder):
    """Python's own search for modules on `sys.path`, which finds no TensorFlow."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname == "tensorflow":
            return None
        return super().find_spec(fullname, path, target)


sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = WithoutTensorflow
