"""ConvNeXt, "A ConvNet for the 2020s", for Keras 3 on TensorFlow, JAX and PyTorch.

Importing the package neither chooses nor imports a backend: a public name is imported when it is
first used, so KERAS_BACKEND may still be set after `import keras_convnext`. Type checkers and
editors read `__init__.pyi`, which lists the same names.
"""

import importlib
from typing import Any

from keras_convnext.keras_import import when_keras_is_imported

__version__ = "0.1.0"

# Public name -> the module that defines it, and its name there. An entry without a colon is a
# module. `__init__.pyi` lists the same names for type checkers; tests/test_types.py compares them.
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
    "Evaluation": "evaluation.classification:Evaluation",
    "Prediction": "tasks.classification.predictor:Prediction",
    "Predictor": "tasks.classification.predictor:Predictor",
    "Preprocessor": "data.preprocessor:Preprocessor",
    "Recipe": "recipe:Recipe",
    "RunDirectory": "runs.directory:RunDirectory",
    "callbacks": "callbacks",
    "convert_weights": "conversion:convert_weights",
    "create_model": "models:create_model",
    "data_parallel": "distribution.data_parallel:data_parallel",
    "errors": "errors",
    "decode_predictions": "models:decode_predictions",
    "evaluate": "workflows:evaluate",
    "export": "serving.export:export",
    "feature_pyramid": "models:feature_pyramid",
    "grad_cam": "evaluation.grad_cam:grad_cam",
    "imagenet": "catalog.imagenet",
    "layers": "layers",
    "list_models": "catalog.architectures:list_models",
    "list_weights": "catalog.checkpoints:list_weights",
    "load_recipe": "recipe:load_recipe",
    "load_weights": "weights.load:load_weights",
    "model_from_weights": "models:model_from_weights",
    "optimizers": "optimizers",
    "preprocess_input": "models:preprocess_input",
    "save_weights": "weights.save:save_weights",
    "schedules": "schedules",
    "train": "workflows:train",
}
__all__ = list(_HOMES)
# Packages that some public names need besides a backend; the extra `train` installs them.
_OPTIONAL = ("tensorflow", "keras_cv", "matplotlib")


# Keras finds the layers of a saved model by their registered names. They are registered when they
# are imported, which imports a backend, so they are imported together with Keras.
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
