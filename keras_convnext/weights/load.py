"""Loads weights strictly: every weight must match, or nothing changes."""

import logging
import os

import keras
import numpy as np

from keras_convnext.catalog.checkpoints import resolve
from keras_convnext.errors import WeightsError
from keras_convnext.weights.network import find_network, normalization_of
from keras_convnext.weights.stem import adapt_channels, can_adapt
from keras_convnext.weights.variables import check_values_persist, set_value
from keras_convnext.weights.weight_file import STEM_KERNEL, WeightFile, open_weights

logger = logging.getLogger(__name__)

LISTED = 20  # lines of a report before it is cut short


def load_weights(model: keras.Model, source: str | os.PathLike) -> None:
    """Loads the weights of a published checkpoint or a file into a network.

    Every weight of the network must be in the file with its shape, and every weight of the file's
    network must be this one's; else nothing is changed. Two differences are allowed: a network
    without its top does not load the classifier's weights, and a classifier of another number of
    classes keeps the weights that it has, which is logged.

    The network may stand inside a bigger model, and the file's inside a bigger one too. What the
    model holds beside the network keeps its weights; what the file holds beside it is not loaded,
    which is logged. So is a model that normalizes its images otherwise than the weights expect.

    Args:
        model: A network of this package, its feature pyramid, or a model that holds one of them.
        source: Name of a published checkpoint (`keras_convnext.list_weights()`), a file, a
            directory, `hf://owner/name` or an `https://` address. Files may be those of the
            official code (`.pth`), of timm, transformers and torchvision (`.safetensors`, `.pth`,
            `.bin`, `.ckpt`), of `keras.applications` (`.h5`, `.weights.h5`, `.keras`) and of this
            package (the same, and `.safetensors`). The format is recognized by the names of the
            weights, whatever prefix they have in common. If a training checkpoint holds the weights
            and their moving average, the weights are loaded, which is logged.

    Raises:
        WeightsError: If the weights cannot be fetched or read, or are not the network's; the
            message lists the differences, with the shapes on both sides. If the model holds no
            ConvNeXt, or several, and if the file holds another network, which is named if known.
        MissingPackage: If PyTorch is needed to read the file and is not installed.

    Example:
        >>> model = keras_convnext.ConvNeXtTiny(classes=10)
        >>> keras_convnext.load_weights(model, "convnext_tiny.fb_in22k")
    """
    weight_file = open_weights(resolve(source))
    assign(model, weight_file)
    _log_other_normalization(model, weight_file)


def assign(model: keras.Model, weight_file: WeightFile, adapt_stem: bool = False) -> None:
    """Loads the weights of an opened file into a network; see `load_weights`.

    Args:
        model: As in `load_weights`.
        weight_file: The opened file.
        adapt_stem: Whether a stem for images of other channels takes an RGB kernel adapted to them,
            which is logged; see `weights.stem`.
    """
    network = find_network(model)
    variables = network.variables
    here = {path: tuple(variable.shape) for path, variable in variables.items()}
    there = dict(weight_file.shapes)
    if "head/kernel" not in here:
        there = _without(there, "head/")
    if "head_norm/gamma" not in here:  # a feature pyramid
        there = _without(there, "head_norm/")
    replaced = _is_other_head(here, there)
    if replaced:
        here, there = _without(here, "head/"), _without(there, "head/")
    stem = here.get(STEM_KERNEL, ())
    adapted = adapt_stem and can_adapt(stem, there.get(STEM_KERNEL, ()))
    if adapted:
        there[STEM_KERNEL] = stem
    _check_differences(network.name, weight_file, here, there)
    check_values_persist(network.name, variables.values())
    weight_file.log_left_out()
    if replaced:
        logger.warning(
            "The classifier of %s has %d classes and that of %s has %d: it keeps its own weights.",
            *(network.name, variables["head/bias"].shape[0]),
            *(weight_file.path, weight_file.classes),
        )
    for path in here:
        value = weight_file.read(path)
        if adapted and path == STEM_KERNEL:
            value = adapt_channels(value, stem[2])
            logger.warning(
                "The stem of %s takes images of %d channels and that of %s takes RGB: its kernel "
                "was adapted as timm does for in_chans.",
                *(network.name, stem[2], weight_file.path),
            )
        set_value(variables[path], value)


def _log_other_normalization(model: keras.Model, weight_file: WeightFile) -> None:
    """Logs a warning if a model normalizes its images otherwise than the weights expect."""
    here, there = normalization_of(model), weight_file.normalization
    if here is None or there is None or np.allclose(here, there, rtol=0, atol=1e-6):
        return
    logger.warning(
        "%s normalizes its images by mean=%s, std=%s, but the weights of %s were trained with "
        "mean=%s, std=%s. Build the network with weights=..., or pass mean and std to it.",
        *(model.name, *here, weight_file.path, *there),
    )


def _without(shapes, layer):
    return {path: shape for path, shape in shapes.items() if not path.startswith(layer)}


def _is_other_head(here, there):
    """Whether the classifiers differ in the number of classes, and in nothing else."""
    kernels = here.get("head/kernel"), there.get("head/kernel")
    if None in kernels or len(kernels[1]) != 2:
        return False
    return kernels[0][0] == kernels[1][0] and kernels[0][1] != kernels[1][1]


def _check_differences(name, weight_file, here, there):
    lines = [
        f"  {path}: {here.get(path, 'none')} here, {there.get(path, 'none')} in the file"
        for path in [*here, *(path for path in there if path not in here)]
        if here.get(path) != there.get(path)
    ]
    lines += [
        f"  {name}: none here, {shape} in the file"
        for name, shape in weight_file.unexpected.items()
    ]
    if not lines:
        return
    if len(lines) > LISTED:
        lines[LISTED:] = [f"  and {len(lines) - LISTED} more"]
    try:
        variant = weight_file.architecture.variant
    except WeightsError:  # the file holds too little to know
        variant = None
    hint = f", which is a {variant}" if variant not in (None, name) else ""
    lines = [f"{name!r} is not the network of {weight_file.path}{hint}:", *lines]
    if "head/kernel" in here and "head/kernel" not in there:
        lines += [
            "The file holds no classifier of a ConvNeXt; a network built with include_top=False "
            "takes its weights.",
            *weight_file.left_out,
        ]
    raise WeightsError("\n".join(lines))
