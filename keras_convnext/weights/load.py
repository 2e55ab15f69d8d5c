"""Weights into a network: all of them or none, and nothing left out without a word."""

import logging
import os

import keras

from keras_convnext.errors import WeightsError
from keras_convnext.weights.fetch import fetch
from keras_convnext.weights.network import find_network
from keras_convnext.weights.variables import refuse_lost_values, set_value
from keras_convnext.weights.weight_file import StoredWeights

logger = logging.getLogger(__name__)

LISTED = 20  # lines of a report before it is cut short


def load_weights(model: keras.Model, source: str | os.PathLike) -> None:
    """Gives a network the weights of a published checkpoint or a file.

    Every weight of the network must be in the file with its shape, and every weight of the file's
    network must be this one's; else nothing is changed. Two differences are meant to be: a network
    without its top leaves the classifier's weights in the file, and a classifier of another number
    of classes keeps those that it has, which is logged.

    The network may stand inside a bigger model, and the file's inside a bigger one too. What the
    model holds beside the network keeps its weights; what the file holds beside it stays there,
    which is logged.

    Args:
        model: A network of this package, its feature pyramid, or a model that holds one of them.
        source: Name of a published checkpoint (`keras_convnext.list_weights()`), a file, a
            directory, `hf://owner/name` or an `https://` address. Files may be those of the
            official code (`.pth`), of timm, transformers and torchvision (`.safetensors`, `.pth`,
            `.bin`, `.ckpt`), of `keras.applications` (`.h5`, `.weights.h5`, `.keras`) and of this
            package (the same, and `.safetensors`); which of them it is, is told by the weights'
            names, whatever prefix these have in common. Of a training checkpoint that holds the
            weights and their moving average, the weights are taken, which is logged.

    Raises:
        WeightsError: If the weights cannot be had or read, or are not the network's; the message
            lists what differs, with the shapes on both sides. If the model holds no ConvNeXt, or
            several, and if the file holds another network, which is named where it is known.
        MissingPackage: If PyTorch is needed to read the file and is not installed.

    Example:
        >>> model = keras_convnext.ConvNeXtTiny(classes=10)
        >>> keras_convnext.load_weights(model, "convnext_tiny.fb_in22k")
    """
    assign(model, StoredWeights(fetch(source)))


def assign(model: keras.Model, stored: StoredWeights) -> None:
    """Gives a network the weights of an opened file; see `load_weights`."""
    network = find_network(model)
    variables = network.variables
    here = {path: tuple(variable.shape) for path, variable in variables.items()}
    there = dict(stored.shapes)
    if "head/kernel" not in here:
        there = _without(there, "head/")
    if "head_norm/gamma" not in here:  # a feature pyramid
        there = _without(there, "head_norm/")
    replaced = _is_other_head(here, there)
    if replaced:
        here, there = _without(here, "head/"), _without(there, "head/")
    _refuse_differences(network.name, stored, here, there)
    refuse_lost_values(network.name, variables.values())
    stored.log_left_out()
    if replaced:
        logger.warning(
            "The classifier of %s has %d classes and that of %s has %d: it keeps its own weights.",
            *(network.name, variables["head/bias"].shape[0], stored.path, stored.classes),
        )
    for path in here:
        set_value(variables[path], stored.read(path))


def _without(shapes, layer):
    return {path: shape for path, shape in shapes.items() if not path.startswith(layer)}


def _is_other_head(here, there):
    """Whether the classifiers differ in the number of classes, and in nothing else."""
    kernels = here.get("head/kernel"), there.get("head/kernel")
    if None in kernels or len(kernels[1]) != 2:
        return False
    return kernels[0][0] == kernels[1][0] and kernels[0][1] != kernels[1][1]


def _refuse_differences(name, stored, here, there):
    lines = [
        f"  {path}: {here.get(path, 'none')} here, {there.get(path, 'none')} in the file"
        for path in [*here, *(path for path in there if path not in here)]
        if here.get(path) != there.get(path)
    ]
    lines += [
        f"  {name}: none here, {shape} in the file" for name, shape in stored.unexpected.items()
    ]
    if not lines:
        return
    if len(lines) > LISTED:
        lines[LISTED:] = [f"  and {len(lines) - LISTED} more"]
    try:
        variant = stored.architecture.variant
    except WeightsError:  # not enough is there to know it
        variant = None
    hint = f", which is a {variant}" if variant not in (None, name) else ""
    lines = [f"{name!r} is not the network of {stored.path}{hint}:", *lines]
    if "head/kernel" in here and "head/kernel" not in there:
        lines += [
            "The file holds no classifier of a ConvNeXt; a network without one, of "
            "include_top=False, takes its weights.",
            *stored.left_out,
        ]
    raise WeightsError("\n".join(lines))
