"""The keys of keras_convnext 0.1 that have other names now.

They are refused in a recipe and in overrides, with the new name in the message. The recipe that a
run stored is translated, so that older runs are still resumed, evaluated and exported.
"""

from typing import Any

RUN_HEADER = "# The recipe of the run in this directory, with every default written out.\n"
"""The first line of the recipe in a run's directory; it must stay, since older runs have it."""

RENAMED = {
    "augment.cutmix_share": "augment.switch_probability",
    "augment.rand_augment.magnitude_deviation": "augment.rand_augment.magnitude_std",
    "augment.rand_augment.rate": "augment.rand_augment.probability",
    "augment.repeats": "augment.repeated_augmentation",
    "optimizer.accumulation": "optimizer.gradient_accumulation_steps",
    "optimizer.clip_norm": "optimizer.global_clipnorm",
    "optimizer.kind": "optimizer.name",
    "schedule.kind": "schedule.name",
    "schedule.step_factor": "schedule.gamma",
}


def with_new_names(settings: Any, section: str = "") -> Any:
    """Returns the settings of a stored recipe with the keys of today.

    Args:
        settings: A recipe's mapping, or any value in it, which is returned as it is.
        section: The dotted name of the mapping within the recipe. Defaults to the whole recipe.

    Example:
        >>> with_new_names({"optimizer": {"kind": "sgd"}})
        {'optimizer': {'name': 'sgd'}}
    """
    if not isinstance(settings, dict):
        return settings
    renamed = {}
    for key, value in settings.items():
        path = f"{section}.{key}".lstrip(".")
        new_key = RENAMED.get(path, path).rpartition(".")[-1]
        renamed[new_key] = with_new_names(value, path)
    return renamed
