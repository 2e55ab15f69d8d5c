"""Makes torchvision importable if its compiled part cannot be loaded."""

from importlib.util import find_spec

import torch

# PyTorch removes operations together with the library object that declared them.
_declared: list[torch.library.Library] = []
# The operations that torchvision's Python part extends while it is imported.
REGISTERED = ("nms", "qnms")


def make_torchvision_importable() -> None:
    """Declares missing operations of torchvision, if it is installed and cannot be imported.

    timm imports torchvision and transformers tries to, though their ConvNeXt does not use it. With
    PyTorch's CPU build from PyPI, its compiled part cannot be loaded, and the import fails at two
    operations that this part would declare.
    """
    if find_spec("torchvision") is None:
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in REGISTERED:
            library.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
        _declared.append(library)
