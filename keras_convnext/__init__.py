"""ConvNeXt, "A ConvNet for the 2020s", for Keras 3 on TensorFlow, JAX and PyTorch.

The public names are resolved when they are first used, so that importing the package neither
imports nor picks a backend: `KERAS_BACKEND` may still be set afterwards.
"""

import importlib

__version__ = "0.1.0"

# Public name -> the module that defines it. A name that is None in its module is the module.
_HOMES = {
    "variants": ["list_models"],
    "models": [
        "ConvNeXt",
        "ConvNeXtTiny",
        "ConvNeXtSmall",
        "ConvNeXtBase",
        "ConvNeXtLarge",
        "ConvNeXtXLarge",
        "create_model",
        "feature_pyramid",
    ],
}
_MODULES = ["layers"]
