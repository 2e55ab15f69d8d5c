"""ConvNeXt, "A ConvNet for the 2020s", for Keras 3 on TensorFlow, JAX and PyTorch.

The public names are found when they are first used, so that importing the package neither picks nor
imports a backend: KERAS_BACKEND may still be set afterwards.
"""

import importlib
from typing import Any

from keras_convnext.keras_import import when_keras_is_imported

__version__ = "0.1.0"

# Public name -> where it is defined. An entry without a colon is a module.
_HOMES = {
    "ConvNeXt": "models:ConvNeXt",
    "ConvNeXtIsotropicSmall": "models:ConvNeXtIsotropicSmall",
    "ConvNeXtIsotropicBase": "models:ConvNeXtIsotropicBase",
    "ConvNeXtIsotropicLarge": "models:ConvNeXtIsotropicLarge",
    "ConvNeXtTiny": "models:ConvNeXtTiny",
    "ConvNeXtSmall": "models:ConvNeXtSmall",
    "ConvNeXtBase": "models:ConvNeXtBase",
    "ConvNeXtLarge": "models:ConvNeXtLarge",
    "ConvNeXtXLarge": "models:ConvNeXtXLarge",
    "Preprocessor": "data.preprocessor:Preprocessor",
    "Predictor": "serving.predictor:Predictor",
    "callbacks": "callbacks",
    "convert_weights": "conversion:convert_weights",
    "create_model": "models:create_model",
    "evaluate": "workflows:evaluate",
    "export": "serving.export:export",
    "feature_pyramid": "models:feature_pyramid",
    "imagenet": "catalog.imagenet",
    "layers": "layers",
    "list_models": "catalog.architectures:list_models",
    "list_weights": "catalog.checkpoints:list_weights",
    "load_recipe": "recipe:load_recipe",
    "load_weights": "weights.load:load_weights",
    "model_from_weights": "models:model_from_weights",
    "optimizers": "optimizers",
    "save_weights": "weights.save:save_weights",
    "schedules": "schedules",
    "train": "workflows:train",
}
__all__ = list(_HOMES)
# What some of them need beside a backend.
_OPTIONAL = ("tensorflow", "keras_cv", "matplotlib")


# Keras finds the layers in a saved model by the names they are registered under, and they register
# when they are imported, which imports a backend. So they are imported together with Keras.
when_keras_is_imported(
    lambda: [
        importlib.import_module(f"{__name__}.{module}")
        for module in ("layers", "optimizers", "schedules")
    ]
)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module_name, _, attribute = _HOMES[name].partition(":")
    try:
        module = importlib.import_module(f"{__name__}.{module_name}")
    except ModuleNotFoundError as error:
        if error.name not in _OPTIONAL:
            raise
        from keras_convnext.errors import MissingPackage

        raise MissingPackage(f"{error.name!r}, which {name} needs,", "train") from error
    return getattr(module, attribute) if attribute else module


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
