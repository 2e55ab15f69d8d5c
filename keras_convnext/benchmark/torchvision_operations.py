"""Makes torchvision importable where its compiled part cannot be loaded."""

from importlib.util import find_spec

import torch

# PyTorch forgets operations when the library that declared them is gone.
_declared: list[torch.library.Library] = []
# What torchvision's Python part registers with PyTorch while it is imported.
REGISTERED = ("nms", "qnms")


def make_torchvision_importable() -> None:
    """Declares the operations torchvision lacks, unless it can be imported or is not there.

    timm needs torchvision and transformers tries it, though their networks use none of it. Beside
    PyTorch's CPU build from PyPI its compiled part cannot be loaded, and its Python part fails at
    two operations that were to come from there.
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
