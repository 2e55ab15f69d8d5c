"""Makes torchvision importable, which timm needs and transformers tries.

Beside PyTorch's CPU build its compiled part cannot be loaded, and its Python part fails at two
operations that no test here uses. Declaring them is enough. Importing this module does it.
"""

import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
