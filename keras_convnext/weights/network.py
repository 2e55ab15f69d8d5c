"""Finds the ConvNeXt in a Keras model, at any depth, by the names of its layers."""

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from keras_convnext.errors import WeightsError
from keras_convnext.weights.keras_config import DIGITS, NORMALIZATION

if TYPE_CHECKING:  # tensors are converted without Keras, which takes memory
    import keras

OWN_LAYER = re.compile(r"stem|stages_\d+_(?:downsampling|blocks_\d+)|head_norm|head")
# A model with these layers is a ConvNeXt.
ANCHORS = ("stem", "stages_0_blocks_0")
# Quantized kernels are integers with a scale; float8 leaves them in float32.
KEPT_AS_FLOAT = (None, "float8")


@dataclasses.dataclass(frozen=True)
class Network:
    """A ConvNeXt, and the other weights of the model around it.

    Attributes:
        name: Name of the model that directly holds its layers.
        variables: The path of every weight within the network to its variable. The path starts with
            the name of the network's layer, without the models around the network.
        others: The weights of the model that are not the network's.
        inner: Whether the network is a model inside the one that was given.
    """

    name: str
    variables: "dict[str, keras.Variable]"
    others: "list[keras.Variable]"
    inner: bool


def find_network(model: "keras.Model") -> Network:
    """Finds the ConvNeXt in a model: the model itself, or one that it holds at any depth.

    Raises:
        WeightsError: If there is none, or more than one.
    """
    found = _networks(model)
    if not found:
        raise WeightsError(_no_network(model))
    if len(found) > 1:
        names = ", ".join(repr(container.name) for container, _ in found)
        raise WeightsError(
            f"{model.name!r} holds {len(found)} ConvNeXts: {names}. Pass one of them."
        )
    ((container, layers),) = found
    variables = {
        f"{layer.name}{variable.path.removeprefix(layer.path)}": variable
        for layer in layers.values()
        for variable in layer.weights
    }
    own = {id(variable) for variable in variables.values()}
    others = [variable for variable in model.weights if id(variable) not in own]
    return Network(container.name, variables, others, container is not model)


def float_weights(model: "keras.Model", network: Network) -> dict[str, Any]:
    """Returns the float weights of a network, each as a variable or a tensor.

    LoRA's matrices are merged into their kernels, as Keras does when it saves a model.

    Raises:
        WeightsError: If a layer is quantized to integers.
    """
    weights = dict(network.variables)
    path_of = {id(variable): path for path, variable in weights.items()}
    for layer in _all_layers(model):
        mode, lora = layer.quantization_mode, getattr(layer, "lora_enabled", False)
        paths = [path_of[id(v)] for v in layer.weights if id(v) in path_of]
        if not paths or not hasattr(layer, "kernel") or (mode is None and not lora):
            continue
        if mode not in KEPT_AS_FLOAT:
            raise WeightsError(
                f"{network.name!r} is quantized to {mode}, which the formats of weight "
                f"files cannot hold. Write the weights before `quantize`, or keep the quantized "
                f"model with model.save('model.keras')."
            )
        place = paths[0].rpartition("/")[0]
        for path in paths:  # beside kernel and bias there are LoRA's matrices or float8's scales
            del weights[path]
        weights[f"{place}/kernel"] = layer.kernel  # with LoRA's matrices merged in
        if layer.bias is not None:
            weights[f"{place}/bias"] = layer.bias
    return weights


def normalization_of(
    model: "keras.Model",
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Returns mean and standard deviation that a model normalizes its images by, from 0 to 1.

    `None` if it holds no normalization made by this package.
    """
    for layer in _all_layers(model):
        if layer.name == NORMALIZATION and layer.get_config().get("mean") is not None:
            config = layer.get_config()
            return (
                tuple(round(value / 255, DIGITS) for value in config["mean"]),
                tuple(round(value**0.5 / 255, DIGITS) for value in config["variance"]),
            )
    return None


def _networks(model):
    """Returns every model that is a ConvNeXt, with its layers by name.

    Models may share their layers, as a feature pyramid does with its network. Of these the one with
    the most layers is returned.
    """
    of_stem: dict[int, tuple[Any, dict[str, Any]]] = {}
    for container in [model, *_all_layers(model)]:
        layers = {layer.name: layer for layer in _own_layers(container)}
        if not all(name in layers for name in ANCHORS):
            continue
        stem = id(layers["stem"])
        if stem not in of_stem or len(layers) > len(of_stem[stem][1]):
            of_stem[stem] = (container, layers)
    return list(of_stem.values())


def _own_layers(container):
    """Returns the layers of a model that belong to a ConvNeXt."""
    layers = {
        layer.name: layer
        for layer in _sublayers(container, recursive=False)
        if OWN_LAYER.fullmatch(layer.name) and layer.weights
    }
    if "head" in layers and not _is_classifier(layers["head"], layers.get("head_norm")):
        del layers["head"]  # a user's own layer of this name
    return layers.values()


def _is_classifier(head, head_norm):
    """Whether a layer called `head` takes the output of the network's last LayerNorm."""
    kernel = getattr(head, "kernel", None)
    if kernel is None or len(kernel.shape) != 2 or head_norm is None:
        return False
    return kernel.shape[0] == head_norm.weights[0].shape[0]


def _all_layers(model):
    return _sublayers(model, recursive=True)


def _sublayers(layer, recursive):
    """Returns the layers that a layer holds, each once."""
    from keras_convnext.keras_private import flatten_layers

    sublayers = flatten_layers(layer, include_self=False, recursive=recursive)
    return list({id(sublayer): sublayer for sublayer in sublayers}.values())


def _no_network(model):
    if not model.weights:
        return f"{model.name!r} has no weights yet. Call it on images first, which builds it."
    names = [layer.name for layer in _sublayers(model, recursive=False)]
    listed = ", ".join(map(repr, names[:5])) + (" and others" if len(names) > 5 else "")
    return (
        f"{model.name!r} holds no ConvNeXt of keras_convnext, which would have layers called "
        f"{' and '.join(map(repr, ANCHORS))}. Its layers are {listed or 'none'}."
    )
