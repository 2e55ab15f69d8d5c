"""ConvNeXt-T with one narrow block a stage, for documentation that names the real one."""

import dataclasses

from keras_convnext.catalog.architectures import NETWORKS, VARIANTS

NAME = "convnext_tiny"
ROW = dataclasses.replace(
    VARIANTS[NAME],
    arguments={**VARIANTS[NAME].arguments, "depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)},
)


def replace_tiny(set_item=dict.__setitem__) -> None:
    """Makes every ConvNeXt-T of this process the small one."""
    for table in (NETWORKS, VARIANTS):
        set_item(table, NAME, ROW)
