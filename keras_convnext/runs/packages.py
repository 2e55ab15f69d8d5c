"""Checks that the optional packages of a recipe are installed, before it trains."""

from keras_convnext import runtime
from keras_convnext.recipe import Recipe


def check_packages(recipe: Recipe) -> None:
    """Raises a `MissingPackage` that names every package a recipe needs and that is missing."""
    needed = {
        "tensorflow": "TensorFlow, which reads the images,",
        "matplotlib": "matplotlib, which draws the report,",
        "tensorboard": "tensorboard, which writes the curves it shows,",
    }
    if recipe.augment.policy == "keras_cv":
        needed["keras_cv"] = "KerasCV, which augments the images,"
    if recipe.data.source == "digits":
        needed["sklearn"] = "scikit-learn, which holds the digits,"
    if recipe.data.source == "tfds":
        needed["tensorflow_datasets"] = "TensorFlow Datasets, which reads the data,"
    runtime.check_installed(needed, "train")
