"""The command `models`."""

from keras_convnext.catalog.architectures import VARIANTS
from keras_convnext.cli.output import results
from keras_convnext.cli.tables import models_table


def models() -> None:
    """List the models with their sizes."""
    results.print(models_table(VARIANTS.values()))
